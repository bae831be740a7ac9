"""Limits of a listening port: how many connections it has, and how long each may take for what it sends.

aiohttp closes a connection that idles between two requests. It waits without end for the rest of a header, and for a
client that does not read its answers; nothing limits how many connections there are.

A connection is in turn

opening    its TLS handshake: `Limits.handshake_seconds`
idle       closed by aiohttp after its keep-alive time
sending    from the first byte of a request to the end of its headers: `Limits.header_seconds`
served     a handler has the request, and limits the time for its body (`webhook.admission.bodies`)

Where there are too many, the one that has been of no use for the longest is closed: the oldest that has never had an
answer, else the one whose last answer is the oldest. So the API server's are the last to go.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import cast

from aiohttp import web

_LOOK_SECONDS = 0.02
"""Between two looks whether every connection has had an answer."""

HttpHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers one request."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one port."""

    connections: int = 1024
    """At a time, those in their TLS handshake included. An idle one costs about 40 KB of memory; an API server has a
    few dozen."""

    handshake_seconds: float = 5.0
    """For the TLS handshake."""

    header_seconds: float = 10.0
    """From the first byte of a request to the end of its headers."""

    stalled_seconds: float = 10.0
    """For which a client may leave an answer unread."""


class Connection(asyncio.Protocol):
    """Passes one connection's bytes to aiohttp's protocol, and ends the connection when it takes too long.

    Args:
        protocol: aiohttp's, for this connection alone.
        connections: the port's.

    Attributes:
        cancel: ends the connection while it is opening.
    """

    __slots__ = ("_connections", "_deadline", "_loop", "_served", "_timer", "_transport", "cancel", "protocol")

    def __init__(self, protocol: asyncio.Protocol, connections: "Connections") -> None:
        self.protocol = protocol
        self.cancel: Callable[[], object] = lambda: None
        self._connections = connections
        self._served = False
        self._loop = asyncio.get_running_loop()
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless the connection was closed to make room, or its client is not an expected one."""
        stream = cast("asyncio.Transport", transport)
        if self not in self._connections or not self._connections.admits(stream):
            stream.abort()
            return
        self._transport = stream
        self.protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Start the time for a request's headers with its first byte."""
        if self._transport is None:
            return
        if self._deadline is None and not self._served:
            self._limit(self._connections.limits.header_seconds)
        self.protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Close, as aiohttp does: an HTTP client that ends its side has nothing to ask any more."""
        return self.protocol.eof_received() if self._transport else None

    def pause_writing(self) -> None:
        """Start the time for the client to read its answer."""
        self._limit(self._connections.limits.stalled_seconds)
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """Lift the limit: the client reads."""
        self._deadline = None
        self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_timer()
        self._connections.forget(self)
        if self._transport is not None:
            self._transport = None
            self.protocol.connection_lost(exc)

    def begin_serving(self) -> None:
        """Stop the time for the headers: a handler has them."""
        self._served = True
        self._deadline = None

    def end_serving(self) -> None:
        """Expect another request."""
        self._served = False

    def abort(self) -> None:
        """End it now, whatever is still to be sent."""
        if self._transport is None:
            self.cancel()
        else:
            self._transport.abort()

    # The timer stays when the deadline goes, and looks for the next one when it fires: a timer for each request would
    # be set and cancelled in a millisecond, and cost more than what it limits.

    def _limit(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() >= self._deadline:
            self.abort()
        else:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _stop_timer(self) -> None:
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connections:
    """The connections of one port.

    Args:
        admits: called with each transport that has been opened; returns whether its client may go on.
    """

    def __init__(self, limits: Limits, admits: Callable[[asyncio.BaseTransport], bool] = lambda _: True) -> None:
        self.limits = limits
        self.admits = admits
        self._of: dict[object, Connection] = {}
        # Dictionaries keep the order of insertion, so the first key is the one that has waited for the longest.
        self._unanswered: dict[Connection, None] = {}
        self._answered: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, connection: Connection) -> bool:
        return self._of.get(connection.protocol) is connection

    def add(self, protocol: asyncio.Protocol) -> Connection:
        """Return the protocol of a connection that is about to open."""
        connection = Connection(protocol, self)
        self._of[protocol] = connection
        self._unanswered[connection] = None
        return connection

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._of.pop(connection.protocol, None)
        self._unanswered.pop(connection, None)
        self._answered.pop(connection, None)

    def make_room(self) -> bool:
        """Close connections until there is room for one more; return whether any had to be closed."""
        crowded = len(self) >= self.limits.connections
        while len(self) >= self.limits.connections:
            victim = next(iter(self._unanswered or self._answered))
            self.forget(victim)  # now: the transport reports the loss only with the loop's next turn
            victim.abort()
        return crowded

    async def wait_answered(self, seconds: float) -> None:
        """Wait until each connection has had an answer or is closed, but no longer than some seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._unanswered and loop.time() < end:  # noqa: ASYNC110 - an event would cost each request something
            await asyncio.sleep(_LOOK_SECONDS)

    def track(self, handler: HttpHandler) -> HttpHandler:
        """Return a handler that knows when a request's headers are complete and when it is answered."""

        async def tracked(request: web.BaseRequest) -> web.StreamResponse:
            connection = self._of.get(request.protocol)
            if connection is None:  # closed meanwhile
                return await handler(request)
            connection.begin_serving()
            try:
                return await handler(request)
            finally:
                connection.end_serving()
                if connection in self:
                    self._unanswered.pop(connection, None)
                    self._answered.pop(connection, None)
                    self._answered[connection] = None

        return tracked


def expected_client(names: Collection[str]) -> Callable[[asyncio.BaseTransport], bool]:
    """Return a check of a client's certificate, which TLS has verified.

    Args:
        names: common names, one of which it must have; empty for any.
    """

    def admits(transport: asyncio.BaseTransport) -> bool:
        if not names:
            return True
        subject = (transport.get_extra_info("peercert") or {}).get("subject", ())
        return any(key == "commonName" and value in names for relative in subject for key, value in relative)

    return admits
