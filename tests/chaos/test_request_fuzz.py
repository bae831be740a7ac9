"""The admission server under fuzzed requests: each is answered, none by a fault of its own, and memory stays flat.

`LEDGERGATE_FUZZ=200000` sends that many; `make fuzz` does.
"""

import asyncio
import gzip
import json
import logging
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil
import pytest

from testbed.admission.load import resident_mb
from testbed.admission.mutations import garbled, mutated
from testbed.admission.reviews import review
from testbed.admission.serve import REVISIONS
from testbed.ports import free_ports
from testbed.waiting import until

log = logging.getLogger(__name__)

COUNT = int(os.environ.get("LEDGERGATE_FUZZ", "4000"))
SEED = 20260126
CLIENTS = 8
PATHS = (
    "/mutate",
    "/mutate/wait",
    "/validate",
    "/validate/deny",
    "/validate/audit",
    "/validate-workload",
    "/validate-workload/audit",
)
ODD_PATHS = ("/", "/mutate/", "/validate?timeout=x&timeout=1s", "/%00", "/livez", "*", "/mutate?timeout=" + "9" * 300)
ANSWERS = {200, 400, 404, 405, 408, 413, 415, 417}
"""What may be answered: contract, "Bad input", and HTTP's answers to what is no request for a review."""
ANSWER_SECONDS = 20.0
FLAT_MB = 24.0
HEADERS = (
    b"Content-Length: -1",
    b"Content-Length: 18446744073709551616",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Encoding: gzip",
    b"Content-Encoding: br",
    b"Content-Type: text/plain",
    b"Content-Type: application/json; charset=\xff",
    b"Expect: 100-continue",
    b"Expect: the worst",
    b"Upgrade: websocket\r\nConnection: Upgrade",
    b"X: " + b"y" * 9000,
    b"X" * 5000,
    b": no name",
    b"X\0: zero",
    b"X: a\r\n b",
    b"Connection: close",
)
STARTS = (
    b"GET",
    b"PUT",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST" * 3000,
    b"\x16\x03\x01\x02\x00",
    b"post",
    b"\r\n\r\nPOST",
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What is sent on a connection.

    Args:
        answers: how many there must be; None where the server may close the connection instead, but not leave it open.
        cut: whether it is sent in part only, and the connection closed: no answer can be expected.
    """

    data: bytes
    answers: int | None
    cut: bool = False


def documents() -> tuple[bytes, ...]:
    """Return reviews as the API server sends them: of a pod's creation, its update, and of a Deployment."""
    creation = json.loads(review("ns", REVISIONS[0], 2500))
    update = json.loads(review("name", REVISIONS[1], 1500))
    gated = {"schedulingGates": [{"name": "ledgergate.dev/ledger"}]}
    old = json.loads(json.dumps(update["request"]["object"]))
    old["spec"] |= gated
    update["request"] |= {"operation": "UPDATE", "oldObject": old, "options": {"kind": "UpdateOptions"}}
    workload = json.loads(review("ns", REVISIONS[1], 1500))
    template = workload["request"]["object"]
    workload["request"]["kind"] = {"group": "apps", "version": "v1", "kind": "Deployment"}
    workload["request"]["object"] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "gateway", "namespace": "ns"},
        "spec": {"replicas": 2, "template": template},
    }
    held = json.loads(review("long-name", REVISIONS[1], 1500))
    held["request"]["object"]["spec"] |= gated
    return tuple(json.dumps(each).encode() for each in (creation, update, workload, held))


def request(body: bytes, chance: random.Random, path: str = "", *extra: bytes) -> bytes:
    """Return a request that is complete, its body whole or in chunks."""
    head = [
        f"POST {path or chance.choice(PATHS)}?timeout={chance.choice((1, 2, 30))}s HTTP/1.1".encode(),
        b"Host: x",
        b"Content-Type: application/json",
        *extra,
    ]
    if chance.random() < 0.8:
        return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])
    chunks = []
    while body:
        size = chance.choice((1, 7, 100, 4000))
        chunks.append(b"%x\r\n%b\r\n" % (len(body[:size]), body[:size]))
        body = body[size:]
    return b"\r\n".join([*head, b"Transfer-Encoding: chunked", b"", b"".join([*chunks, b"0\r\n\r\n"])])


def draw(chance: random.Random, seeds: tuple[bytes, ...]) -> Sent:
    """Return what is sent next."""

    def body() -> bytes:
        return mutated(chance.choice(seeds), chance)

    def odd() -> bytes:
        whole = request(body(), chance)
        if chance.random() < 0.5:
            return chance.choice(STARTS) + whole[4:]
        end = whole.index(b"\r\n\r\n")
        return garbled(whole[:end], chance) + whole[end:]

    def packed() -> bytes:
        found = gzip.compress(body(), 1)
        found = garbled(found, chance) if chance.random() < 0.5 else found
        return request(found, chance, "", b"Content-Encoding: gzip")

    def cut() -> bytes:
        whole = request(body(), chance)
        return whole[: chance.randrange(1, len(whole))]

    count = chance.randint(2, 6)
    kinds: dict[Callable[[], Sent], int] = {
        lambda: Sent(request(body(), chance), 1): 60,
        lambda: Sent(b"".join(request(body(), chance) for _ in range(count)), count): 15,
        lambda: Sent(cut(), None, cut=True): 7,
        lambda: Sent(request(body(), chance, chance.choice(ODD_PATHS)), None): 5,
        lambda: Sent(packed(), None): 4,
        lambda: Sent(request(body(), chance, "", chance.choice(HEADERS)), None): 5,
        lambda: Sent(odd(), None): 4,
    }
    return chance.choices(tuple(kinds), tuple(kinds.values()))[0]()


class Client:
    """One connection after the other to the server."""

    def __init__(self, port: int, codes: Counter[str]) -> None:
        self._port = port
        self._codes = codes
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, sent: Sent) -> int:
        """Send something, check the answers and return how many requests it was."""
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._open
        if sent.cut or sent.answers is None:
            return await self._send_odd(reader, writer, sent)
        writer.write(sent.data)
        with suppress(ConnectionError):
            await writer.drain()
        for number in range(sent.answers):
            closes = await self._answer(reader, sent)
            if closes:
                # An answer that closes may come before the requests behind it were read: they are asked again.
                self.close()
                return number + 1
        return sent.answers

    async def _send_odd(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: Sent) -> int:
        with suppress(ConnectionError):
            writer.write(sent.data)
            await writer.drain()
            if not sent.cut:
                writer.write_eof()  # what has no end by itself ends here
                while not await self._answer(reader, sent):
                    continue
        self.close()
        self._codes["cut off" if sent.cut else "odd"] += 1
        return 1

    async def _answer(self, reader: asyncio.StreamReader, sent: Sent) -> bool:
        """Read an answer; return whether the connection ends with it."""
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await reader.readline()
            if not line and sent.answers is None:
                return True
            assert line.startswith(b"HTTP/1."), (line, sent)
            code, length, closes = int(line.split()[1]), 0, line.startswith(b"HTTP/1.0")
            while (header := await reader.readline()) not in {b"\r\n", b""}:
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                closes = closes or (name.lower() == b"connection" and value.strip().lower() == b"close")
            body = await reader.readexactly(length)
        self._codes[str(code)] += 1
        assert code in ANSWERS or code == 100, (code, body, sent)
        if code == 200:
            found = json.loads(body)["response"]
            assert isinstance(found["uid"], str), (body, sent)
            assert isinstance(found["allowed"], bool), (body, sent)
        return closes

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None


@pytest.fixture
def server() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """The port of a server, and its process."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "testbed.admission.serve", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield port, process
        process.kill()


@pytest.mark.timeout(900 + COUNT // 100)
async def test_every_request_is_answered_and_none_by_a_fault(server: tuple[int, subprocess.Popen[str]]) -> None:
    """Whatever is sent: an answer of the contract's, no 5xx, no growth, and good reviews are answered in the end."""
    port, process = server
    seeds, codes = documents(), Counter[str]()
    done, flat_from, at_first = 0, COUNT // 10, 0.0

    async def work(number: int) -> None:
        nonlocal done, at_first
        chance = random.Random(SEED + number)  # noqa: S311 - a seed, no secret
        client = Client(port, codes)
        while done < COUNT:
            sent = await client.send(draw(chance, seeds))
            done += sent  # after the await: `done += await …` would lose what other clients have counted meanwhile
            if not at_first and done >= flat_from:
                at_first = resident_mb(process.pid)
        client.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(work(number))
    last = resident_mb(process.pid)
    log.warning("%d requests: %s; %.1f MB after %d, %.1f MB at the end", done, dict(codes), at_first, flat_from, last)
    assert codes["200"] > COUNT // 4
    assert last < at_first + FLAT_MB
    client = Client(port, codes)
    for seed in seeds[:1] * 10:
        assert await client.send(Sent(request(seed, random.Random(1), "/validate"), 1)) == 1  # noqa: S311
    client.close()
    await asyncio.to_thread(until, "no connection left open", lambda: not _connections(process.pid))


def _connections(pid: int) -> int:
    """Return how many established connections a process has."""
    return sum(each.status == psutil.CONN_ESTABLISHED for each in psutil.Process(pid).net_connections("tcp"))
