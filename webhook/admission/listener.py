"""Listen on a port, within limits. aiohttp's own sites accept connections without limit, and count no handshakes."""

import asyncio
import logging
import resource
import socket
import ssl
from contextlib import suppress

from aiohttp import web

from webhook.admission.connections import Connection, Connections, Limits
from webhook.settings import Endpoint
from webhook.telemetry import log_event

BACKLOG = 1024
"""Connections that the kernel accepts before the process does."""

QUIET_SECONDS = 10.0
"""Between two log lines about connections that are refused: there can be thousands a second."""

PAUSE_SECONDS = 0.1
"""After a connection that could not be accepted, for example for want of a file descriptor."""

OTHER_FILES = 256
"""File descriptors for everything but admission's connections: the API server, the probes, certificates."""

_FILE_LIMIT = 65536
"""More is of no use, and "infinity" is no number that a process may ask for everywhere."""

_TLS_SHUTDOWN_SECONDS = 1.0
"""For the client's part of the TLS shutdown, which a client that is gone does not send; asyncio's default is 30."""


def raise_file_limit() -> int:
    """Raise the soft limit of file descriptors, 1024 by default, to the hard limit; return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILE_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _FILE_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _FILE_LIMIT if soft == resource.RLIM_INFINITY else soft


def connection_limit(files: int) -> int:
    """Return how many connections admission may have, and leave some of this many file descriptors for the rest."""
    return min(Limits().connections, max(files - OTHER_FILES, files // 2))


class Listener:
    """Accepts connections for an aiohttp server.

    Args:
        server: makes a protocol for each connection.
        connections: counts and limits them.
        context: of TLS; None for none.
    """

    def __init__(self, server: web.Server, connections: Connections, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._connections = connections
        self._context = context
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._reported_at = float("-inf")

    async def listen(self, endpoint: Endpoint) -> None:
        """Start to accept connections.

        Raises:
            OSError: the address is in use, or does not belong to this machine.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, kind, protocol, _, address in found:
                listening = socket.socket(family, kind, protocol)
                self._sockets.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.setblocking(False)
                listening.bind(address)
                listening.listen(BACKLOG)
        except OSError as error:
            self._close_sockets()
            where = f"{endpoint.host}:{endpoint.port}"
            raise OSError(error.errno, f"cannot listen on the address {where}: {error.strerror or error}") from error
        for listening in self._sockets:
            self._watch(listening)

    async def close(self, seconds: float = 0.0) -> None:
        """Accept no more connections; those that are open stay open.

        Args:
            seconds: for which the newest connections, also those that only the kernel has accepted, may get their first
                answer. Without that a client whose handshake or first request is on its way would see a reset.
        """
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
            with suppress(OSError):
                while seconds and self._accept(listening):
                    pass
        self._close_sockets()
        await self._connections.wait_answered(seconds)
        tasks = tuple(self._opening)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()

    def _watch(self, listening: socket.socket) -> None:
        # Not by `sock_accept`: a coroutine that is cancelled loses the connection that it has just accepted.
        if listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept_or_pause, listening)

    def _accept_or_pause(self, listening: socket.socket) -> None:
        try:
            self._accept(listening)
        except OSError as error:
            self._report(str(error))
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            loop.call_later(PAUSE_SECONDS, self._watch, listening)

    def _accept(self, listening: socket.socket) -> bool:
        """Accept a connection; return whether there was one.

        Raises:
            OSError: there is one that cannot be accepted, for example for want of a file descriptor.
        """
        try:
            accepted, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        accepted.setblocking(False)
        self._admit(accepted)
        return True

    def _admit(self, accepted: socket.socket) -> None:
        if self._connections.make_room():
            self._report(f"more than {self._connections.limits.connections} connections; the idlest is closed")
        opening = self._connections.add(self._server())
        task = asyncio.get_running_loop().create_task(self._open(accepted, opening))
        opening.cancel = task.cancel
        self._opening.add(task)

        def done(_: object) -> None:
            self._opening.discard(task)
            if task.cancelled():  # perhaps before its first step, so that it has closed nothing itself
                accepted.close()

        task.add_done_callback(done)

    async def _open(self, accepted: socket.socket, connection: Connection) -> None:
        """Open one connection, with its TLS handshake."""
        times: dict[str, float] = {}
        opened = False
        if self._context is not None:
            times["ssl_handshake_timeout"] = self._connections.limits.handshake_seconds
            times["ssl_shutdown_timeout"] = _TLS_SHUTDOWN_SECONDS
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context,
                **times,
            )
            opened = True
        except OSError:
            pass  # no TLS, no certificate, too slow, or gone: the client's fault, and not worth a log line for each
        finally:
            if not opened:
                self._connections.forget(connection)
                accepted.close()

    def _report(self, problem: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._reported_at >= QUIET_SECONDS:
            self._reported_at = now
            log_event("connections.limited", level=logging.WARNING, problem=problem)
