"""The shutdown of a replica: requests that arrived just before it are answered, and no client delays it for long."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from certs import tls
from certs.pki import issue_authority, issue_leaf
from testbed.ports import free_ports
from tests.unit.test_admission_server import JSON, NOW, Known, review
from webhook.admission.handlers import Admission
from webhook.admission.server import AdmissionServer, Site, drain, serving
from webhook.settings import Endpoint
from webhook.telemetry import Telemetry

BODY = review()
REQUEST = (
    f"POST /validate?timeout=2s HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY
HOST = "127.0.0.1"


@asynccontextmanager
async def ending(last_seconds: float) -> AsyncIterator[tuple[int, ssl.SSLContext, asyncio.Event]]:
    """Serve over TLS; yield the port, a context that trusts it, and the event that starts the shutdown; then wait."""
    now = datetime.now(UTC)
    ends = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(hours=1)}
    authority = issue_authority("test", **ends)
    context = tls.server_context()
    tls.serve(context, issue_leaf(authority, [HOST], **ends))
    view, end = Known(), asyncio.Event()
    server = AdmissionServer(Admission(view, view, lambda: NOW), view, Telemetry())
    (port,) = free_ports(1)
    started = asyncio.Event()

    async def serve() -> None:
        async with serving(Site(server.handle, Endpoint(HOST, port), context, last_seconds=last_seconds)):
            started.set()
            await end.wait()
            await drain(server, 0.0)

    serving_task = asyncio.create_task(serve())
    await started.wait()
    yield port, ssl.create_default_context(cadata=authority.certificate.decode()), end
    await asyncio.wait_for(serving_task, 10)


async def refused(port: int) -> None:
    """Wait until the port accepts no connection."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except ConnectionError:
                return
            writer.close()
            await asyncio.sleep(0.01)


async def test_a_connection_without_a_request_yet_is_answered() -> None:
    """Its request comes after the port has closed: it is answered, and the connection closed."""
    async with ending(5.0) as (port, trust, end):
        reader, writer = await asyncio.open_connection(HOST, port, ssl=trust)
        end.set()
        await refused(port)
        writer.write(REQUEST)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        writer.close()


async def test_a_handshake_is_finished() -> None:
    """A client that had only connected before the port closed completes its handshake and is answered."""
    async with ending(5.0) as (port, trust, end):
        connected = await asyncio.to_thread(socket.create_connection, (HOST, port))
        end.set()
        await refused(port)
        reader, writer = await asyncio.open_connection(sock=connected, ssl=trust, server_hostname=HOST)
        writer.write(REQUEST)
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_what_says_nothing_is_not_waited_for() -> None:
    """The shutdown ends in time and closes idle connections, whether their handshake was done or not."""
    async with ending(0.2) as (port, trust, end):
        reader, writer = await asyncio.open_connection(HOST, port, ssl=trust)
        silent, other = await asyncio.open_connection(HOST, port)
        end.set()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert await asyncio.wait_for(silent.read(), 10) == b""
        writer.close()
        other.close()
