"""The admission port under hostile clients: good reviews are answered, memory stays bounded, probes answer."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
import uvloop

from certs import tls
from certs.pki import KeyPair, Unreadable, issue_authority, issue_leaf
from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from testbed.controlplane.certificates import Authority
from testbed.ports import free_ports
from webhook.admission.bodies import BODY_LIMIT, BUDGET, BodiesTooMany, BodyReader, BodyTooSlow, read_timeout
from webhook.admission.connections import Limits, expected_client
from webhook.admission.handlers import Admission
from webhook.admission.listener import connection_limit, raise_file_limit
from webhook.admission.server import AdmissionServer, Site, probes, serving
from webhook.core.gate import Gate
from webhook.core.selector import Selector
from webhook.settings import Endpoint
from webhook.telemetry import Telemetry

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
HEAD = b"POST /validate?timeout=2s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
POD = {"metadata": {"annotations": {"ledgergate.dev/revision": "a"}}, "spec": {"containers": []}}
REVIEW = json.dumps(
    {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "u-1", "operation": "CREATE", "namespace": "ns", "object": POD},
    }
).encode()
MIB = 2**20
PROMPT = 10.0
"""Seconds; an answer within them has not waited for a hostile client, whose limits are 30 s or more."""


class OneGate:
    """One gate, whose ledger has revision `a`."""

    synced = True

    def selecting(self, namespace: str, labels: object) -> list[Gate]:
        """Return the gate."""
        del labels
        return [Gate(namespace, "app", Selector(), "pg", "ledgergate")]

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return the ledger."""
        del gate
        return LedgerSnapshot(Ledger.of([Record("a", State.APPLIED)]), NOW)


@dataclass
class Port:
    """A served admission port with its probes, and a client that is known to it."""

    number: int
    probes: int
    session: aiohttp.ClientSession
    trust: ssl.SSLContext | None
    opened: list[socket.socket] = field(default_factory=list)

    async def ask(self) -> float:
        """Return the seconds in which a good review is answered."""
        began = time.perf_counter()
        scheme = "https" if self.trust else "http"
        headers = {"Content-Type": "application/json"}
        url = f"{scheme}://127.0.0.1:{self.number}/validate?timeout=2s"
        async with self.session.post(url, data=REVIEW, headers=headers) as response:
            assert json.loads(await response.read())["response"]["allowed"]
        return time.perf_counter() - began

    async def live(self) -> None:
        """Probe the process, with a connection of its own as the kubelet does."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROMPT)) as session,
            session.get(f"http://127.0.0.1:{self.probes}/livez") as response,
        ):
            assert response.status == 200

    async def connect(self, data: bytes = b"", *, secure: bool = True) -> socket.socket:
        """Open a connection and send something."""
        return await asyncio.to_thread(self._connect, data, secure)

    def _connect(self, data: bytes, secure: bool) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.number), timeout=10)
        if self.trust and secure:
            connection = self.trust.wrap_socket(connection, server_hostname="127.0.0.1")
        self.opened.append(connection)
        connection.sendall(data)
        return connection


async def closed(connection: socket.socket) -> bytes:
    """Wait until the server has closed a connection, and return what it has sent."""

    def read() -> bytes:
        received = b""
        with suppress(ConnectionError):
            while chunk := connection.recv(2**16):
                received += chunk
        return received

    return await asyncio.to_thread(read)


def issue() -> tuple[KeyPair, ssl.SSLContext, ssl.SSLContext]:
    """Return an authority, a context that serves a certificate of it, and one that trusts it."""
    now = datetime.now(UTC)
    ends = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(hours=1)}
    authority = issue_authority("test", **ends)
    context = tls.server_context()
    tls.serve(context, issue_leaf(authority, ["127.0.0.1"], **ends))
    return authority, context, ssl.create_default_context(cadata=authority.certificate.decode())


@asynccontextmanager
async def port(limits: Limits | None = None, *, secure: bool = False) -> AsyncIterator[Port]:
    view, telemetry = OneGate(), Telemetry()
    server = AdmissionServer(Admission(view, view, lambda: NOW), view, telemetry)
    admission, metrics = free_ports(2)
    _, context, trust = issue() if secure else (None, None, None)
    async with (
        serving(
            Site(server.handle, Endpoint("127.0.0.1", admission), context, limits or Limits()),
            Site(probes(lambda: True, lambda: "", telemetry), Endpoint("127.0.0.1", metrics)),
        ),
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust or True), timeout=aiohttp.ClientTimeout(total=20)
        ) as session,
    ):
        found = Port(admission, metrics, session, trust)
        try:
            yield found
        finally:
            for each in found.opened:
                each.close()


def memory() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_idle_connections_leave_room() -> None:
    """2,000 idle connections, after or in their handshake: good reviews and probes are answered, memory is bounded."""

    async def run() -> None:
        raise_file_limit()
        async with port(Limits(connections=512, handshake_seconds=120), secure=True) as site:
            await site.ask()
            before = memory()
            idle = [await site.connect(secure=number % 2 == 0) for number in range(2000)]
            # The clients' ends of the connections are in this process, too.
            assert memory() - before < 300 * MIB
            for _ in range(20):
                assert await site.ask() < PROMPT
                await site.live()
            for each in idle[: 2000 - 512]:
                await closed(each)

    uvloop.run(run())  # as the commands do: on asyncio's loop a TLS connection needs ten times the memory


def test_unfinished_bodies_fit_the_budget() -> None:
    """150 bodies of 7 MB that do not end: memory grows by the budget, and good reviews are answered at once."""

    async def run() -> None:
        async with port() as site:
            await site.ask()
            before = memory()
            head = HEAD.replace(b"2s", b"30s") + b"Content-Length: %d\r\n\r\n" % (BODY_LIMIT - 1)
            unfinished = [await site.connect(head) for _ in range(150)]

            def fill(connection: socket.socket) -> None:
                with suppress(OSError):  # cut off, or closed with the test
                    for _ in range(6 * 16):
                        connection.sendall(b" " * 2**16)

            filling = [asyncio.create_task(asyncio.to_thread(fill, each)) for each in unfinished]
            asked = []
            while not all(task.done() for task in filling):
                asked.append(await site.ask())
                # Without a limit it would be a gigabyte; this process has the clients too.
                assert memory() - before < BUDGET + 128 * MIB
            asked += [await site.ask() for _ in range(50)]
            await site.live()
            assert max(asked) < PROMPT

    uvloop.run(run())


async def test_slow_headers_are_cut_off() -> None:
    """A client that sends a byte at a time has the same time for its headers as any other."""
    async with port(Limits(header_seconds=0.3)) as site:
        connection = await site.connect(HEAD)

        async def trickle() -> None:
            with suppress(OSError):
                while True:
                    connection.send(b"x")
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(trickle())
            assert await closed(connection) == b""
            connection.close()
        assert await site.ask() < PROMPT


async def test_a_slow_body_is_cut_off() -> None:
    """The limit is the timeout that the API server sends; then the answer is 408, and the connection is closed."""
    async with port() as site:
        head = HEAD.replace(b"2s", b"0.3s") + b"Content-Length: 1000\r\n\r\n"
        answer = await closed(await site.connect(head + b"{"))
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"within 0.3 s" in answer


async def test_an_unread_answer_is_cut_off() -> None:
    """A client that asks and never reads does not keep its answers in memory."""
    async with port(Limits(stalled_seconds=0.3)) as site:
        connection = await site.connect()
        request = HEAD + b"Content-Length: %d\r\n\r\n" % len(REVIEW) + REVIEW

        def flood() -> None:
            connection.settimeout(30)
            while True:
                connection.sendall(request * 100)

        with pytest.raises(ConnectionError):
            await asyncio.to_thread(flood)


async def test_a_client_that_never_finishes_its_handshake_is_cut_off() -> None:
    """A half-open connection, on which the client sends nothing, is closed."""
    async with port(Limits(handshake_seconds=0.3), secure=True) as site:
        assert await closed(await site.connect(secure=False)) == b""
        assert await site.ask() < PROMPT


async def test_the_connection_that_answers_stays() -> None:
    """Where there are too many, those without an answer are closed first, so the API server keeps its own."""
    async with port(Limits(connections=8)) as site:
        request = HEAD + b"Content-Length: %d\r\n\r\n" % len(REVIEW) + REVIEW
        connection = await site.connect(request)
        assert (await asyncio.to_thread(connection.recv, 2**16)).startswith(b"HTTP/1.1 200")
        for _ in range(50):
            await site.connect()
        connection.sendall(request)
        assert (await asyncio.to_thread(connection.recv, 2**16)).startswith(b"HTTP/1.1 200")


def test_timeouts_of_requests() -> None:
    """What the API server sends is understood; anything else counts as Kubernetes' default, and more as the longest."""
    assert [read_timeout(text) for text in ("2s", "1s", "0.5s", "30s", "1m0s", "1m")] == [2, 1, 0.5, 30, 30, 30]
    assert {read_timeout(text) for text in ("", "s", "0s", "-1s", "NaNs", "1e9s", "9" * 400 + "s", "soon", "10")} == {
        10
    }


class Source:
    """The part of a request that is read."""

    def __init__(self, chunks: list[bytes], *, ends: bool) -> None:
        self.content, self.content_length = self, None
        self._chunks, self._ends = chunks, ends

    def is_eof(self) -> bool:
        """Return False: more is to come."""
        return False

    async def readany(self) -> bytes:
        """Return the next chunk; wait for ever where the body does not end."""
        if self._chunks:
            return self._chunks.pop(0)
        if not self._ends:
            await asyncio.Event().wait()
        return b""


async def test_the_costliest_body_is_cut_off() -> None:
    """By bytes and time: an old one of half the budget goes, a new one as large is read."""
    seconds = [0.0]
    reader = BodyReader(100, lambda: seconds[0])

    def start(source: Source) -> asyncio.Task[bytes]:
        return asyncio.create_task(reader.read(source, 20))  # type: ignore[arg-type]

    old, small = start(Source([b"x" * 60], ends=False)), start(Source([b"y"], ends=False))
    await asyncio.sleep(0)
    seconds[0] = 5.0
    assert await start(Source([b"z" * 60], ends=True)) == b"z" * 60
    with pytest.raises(BodiesTooMany):
        await old
    assert (reader.held, small.done()) == (1, False)
    small.cancel()
    with pytest.raises(BodyTooSlow):
        await reader.read(Source([b"x"], ends=False), 0.01)  # type: ignore[arg-type]
    await asyncio.gather(small, return_exceptions=True)
    assert reader.held == 0


def test_few_files_leave_some_for_the_rest() -> None:
    """Whatever the hard limit, admission's connections do not take all file descriptors."""
    assert [connection_limit(files) for files in (65536, 1024, 400, 100)] == [1024, 768, 200, 50]
    assert raise_file_limit() >= 1024


async def test_only_the_expected_client_is_answered(tmp_path: Path) -> None:
    """With --client-ca: the certificate of another authority, another name, or none, gets no answer."""
    now = datetime.now(UTC)
    ours, theirs = Authority(now), Authority(now)
    context = tls.server_context("1.3", ours.pem.decode())
    authority, _, _ = issue()
    ends = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(hours=1)}
    tls.serve(context, issue_leaf(authority, ["127.0.0.1"], **ends))
    handler = probes(lambda: True, lambda: "", Telemetry())
    (number,) = free_ports(1)
    names = expected_client(["kube-apiserver"])
    async with serving(Site(handler, Endpoint("127.0.0.1", number), context, Limits(), names)):
        for issuer, name, answered in (
            (ours, "kube-apiserver", True),
            (ours, "kubelet", False),
            (theirs, "kube-apiserver", False),
            (None, "", False),
        ):
            trust = ssl.create_default_context(cadata=authority.certificate.decode())
            if issuer is not None:
                pair = issuer.client(name)
                (file := tmp_path / "client.pem").write_bytes(pair.certificate + pair.key)
                trust.load_cert_chain(file)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
                try:
                    async with session.get(f"https://127.0.0.1:{number}/livez") as response:
                        assert (response.status == 200) is answered
                except aiohttp.ClientError:
                    assert not answered, name


def test_versions_of_tls() -> None:
    """1.3 unless 1.2 is asked for; a client authority that is no certificate is refused."""
    assert tls.server_context().minimum_version is ssl.TLSVersion.TLSv1_3
    assert tls.server_context("1.2").minimum_version is ssl.TLSVersion.TLSv1_2
    for text in ("", "hello", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
        with pytest.raises(Unreadable):
            tls.server_context("1.3", text)
