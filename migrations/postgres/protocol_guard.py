"""The order and the sizes of a server's messages, checked before asyncpg parses them.

asyncpg trusts its server. It buffers a message of 2 GB before it looks at it. Invalid lengths make it loop in C code,
where neither timeouts nor signals interrupt it. A SASL continuation that comes first crashes it with SIGSEGV. Therefore
messages that libpq would refuse never reach asyncpg: it gets an ErrorResponse with SQLSTATE `OUT_OF_PROTOCOL` instead,
and the connection ends.

Sources: https://www.postgresql.org/docs/current/protocol-message-formats.html; libpq's limits are in fe-protocol3.c
(`pqParseInput3`) and fe-connect.c (`PQconnectPoll`).
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Any

import asyncpg
import asyncpg.protocol

from migrations.postgres.driver_errors import OUT_OF_PROTOCOL

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

MAX_AUTHENTICATION = 2_000
"""Bytes of a message of the authentication, as in libpq."""
MAX_SHORT = 30_000
"""Bytes of a message that carries neither rows nor a text of any length, and of an error at the start; as in libpq."""
MAX_LONG = 2**30
"""Bytes of any message: the server allocates no more for one (`MaxAllocSize` in memutils.h)."""
_LONG = frozenset(b"TDdVENAt")
"""Types that may exceed `MAX_SHORT`: libpq's, and ParameterDescription."""

_AUTHENTICATION, _ERROR, _VERSION, _READY = b"REvZ"
_SAYS = "the server does not answer as PostgreSQL does"
_OK = 0
_FOLLOWERS: Mapping[int, frozenset[int]] = {
    3: frozenset({_OK}),  # CleartextPassword
    5: frozenset({_OK}),  # MD5Password
    7: frozenset({8, _OK}),  # GSS
    8: frozenset({8, _OK}),  # GSSContinue
    9: frozenset({8, _OK}),  # SSPI
    10: frozenset({11}),  # SASL
    11: frozenset({12}),  # SASLContinue
    12: frozenset({_OK}),  # SASLFinal
}
"""What may follow each authentication request. asyncpg itself refuses the requests that are not here."""
_FIRST = frozenset({_OK, 2, 3, 5, 6, 7, 9, 10})
_NONE: frozenset[int] = frozenset()

_header = Struct("!Bi")
_code = Struct("!i")
LENGTH_BYTES, HEADER_BYTES = 4, 5
_AUTHENTICATION_BYTES = 9
"""Bytes of a length, which counts itself; of a header; and with the code that a message of the authentication has."""


class OutOfProtocol(Exception):  # noqa: N818 - says what happened
    """The server sends what PostgreSQL does not; the text says what, and is shown to users."""


class MessageCheck:
    """Follows a server's messages by their headers.

    Attributes:
        ready: Whether the server has been ready for a query, and so the session is open.
    """

    def __init__(self) -> None:
        self.ready = False
        self._allowed = _FIRST
        self._authenticated = False
        self._left = 0  # bytes of the last message that have not come yet

    def complete(self, data: bytes) -> int:
        """Return how many bytes may be parsed; the rest begins a header, and must be passed again with what follows it.

        Raises:
            OutOfProtocol: The server sends what PostgreSQL does not.
        """
        at, end, read = self._left, len(data), _header.unpack_from
        last = end - HEADER_BYTES
        while at <= last:
            kind, length = read(data, at)
            # In an open session, a short message of any type needs no further check.
            if not self.ready or not LENGTH_BYTES <= length <= MAX_SHORT:
                if kind == _AUTHENTICATION and not self._authenticated and at + _AUTHENTICATION_BYTES > end:
                    _check_length(kind, length, MAX_AUTHENTICATION, least=8)
                    break
                self._check(data, at, kind, length)
            at += 1 + length
        self._left = max(0, at - end)
        return min(at, end)

    def _check(self, data: bytes, at: int, kind: int, length: int) -> None:
        if self._authenticated:
            _check_length(kind, length, MAX_LONG if kind in _LONG else MAX_SHORT)
            self.ready = self.ready or kind == _READY
            return
        if kind in {_ERROR, _VERSION}:
            _check_length(kind, length, MAX_SHORT if kind == _ERROR else MAX_AUTHENTICATION)
            return
        if kind != _AUTHENTICATION:
            raise OutOfProtocol(f"it sends {_name(kind)} where it has to ask for authentication")
        _check_length(kind, length, MAX_AUTHENTICATION, least=8)
        (code,) = _code.unpack_from(data, at + HEADER_BYTES)
        if code not in self._allowed and (self._allowed is not _FIRST or code in _FOLLOWERS):
            raise OutOfProtocol(f"its authentication is out of order, at request {code}")
        self._authenticated = code == _OK
        self._allowed = _FOLLOWERS.get(code, _NONE)


def _check_length(kind: int, length: int, most: int, least: int = LENGTH_BYTES) -> None:
    if not least <= length <= most:
        raise OutOfProtocol(f"it announces {_name(kind)} of {length:,} bytes, expected {least} to {most:,}")


def _name(kind: int) -> str:
    return f"a message {chr(kind)!r}" if 32 < kind < 127 else f"a message of type {kind}"  # noqa: PLR2004 - printable


class GuardedProtocol(asyncpg.protocol.Protocol):
    """asyncpg's protocol, which gets only what `MessageCheck` lets through."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._check: MessageCheck | None = MessageCheck()
        self._kept = b""
        self._wire: asyncio.BaseTransport | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep the transport, which `_end` aborts."""
        self._wire = transport
        super().connection_made(transport)

    def data_received(self, data: Any) -> None:
        """Pass on the bytes of whole headers and of bodies."""
        if self._check is None:
            return  # the connection has been ended
        if self._kept:
            data = self._kept + data
        try:
            count = self._check.complete(data)
        except OutOfProtocol as error:
            self._end(error)
            return
        self._kept = data[count:]
        try:
            super().data_received(data if count == len(data) else data[:count])
        except Exception as error:  # noqa: BLE001 - the caller that waits gets it, and not the event loop
            self._end(OutOfProtocol(f"{type(error).__name__}: {error}"))

    def _end(self, reason: OutOfProtocol) -> None:
        """Make asyncpg raise the reason in the call that waits for the server, and end the connection."""
        if self._check is None:
            return
        open_session = self._check.ready
        self._check, self._kept = None, b""
        text = f"{_SAYS}: {reason}".replace("\0", "").encode(errors="replace")
        fields = (b"SFATAL", b"VFATAL", b"C" + OUT_OF_PROTOCOL.encode(), b"M" + text, b"")
        answer = _message(b"E", b"".join(field + b"\0" for field in fields))
        if open_session:  # in an open session, asyncpg raises an error only at the ReadyForQuery that ends the answer
            answer += _message(b"Z", b"I")
        with suppress(Exception):  # asyncpg may expect neither message now; then the end of the connection must suffice
            super().data_received(answer)
        if self._wire is not None:
            self._wire.abort()  # type: ignore[attr-defined]  # a transport that can write


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + _code.pack(len(body) + 4) + body


def install() -> None:
    """Make every connection of asyncpg in this process use `GuardedProtocol`."""
    asyncpg.protocol.Protocol = GuardedProtocol  # type: ignore[misc, assignment]  # connect_utils takes it from there
