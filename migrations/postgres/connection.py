"""The driver's connection as sessions and Python migrations use it."""

from __future__ import annotations

import re
import socket
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    _Base = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection

_MAY_COPY = re.compile(r"\bcopy\b.*\bstd(?:in|out)\b", re.IGNORECASE | re.DOTALL)


class Connection(_Base):
    """The connection that Python migrations get.

    It refuses COPY between server and client as a query: asyncpg would never return.

    Attributes:
        reset_query: What `reset` sends; None for asyncpg's own statements, which release every advisory lock.
        closed_at: The calls that closed it, innermost first, as file and line; empty where the other side ended it.
        log_listener: A listener for notices that outlives a reset.
    """

    reset_query: str | None = None
    closed_at: Sequence[tuple[str, int]] = ()
    log_listener: Callable[[Any, asyncpg.PostgresLogMessage], None] | None = None

    def get_reset_query(self) -> str:
        """Return the statements that `reset` sends."""
        return self.reset_query or super().get_reset_query()

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in asyncpg
        """Make the session like new, and forget every listener but ours, which sees no notices of the reset."""
        await super().reset(timeout=timeout)
        if self.log_listener is not None and not self.is_closed():
            self.add_log_listener(self.log_listener)

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in asyncpg
        """Close the connection, and note who does."""
        self.closed_at = self.closed_at or _calls()
        await super().close(timeout=timeout)

    def terminate(self) -> None:
        """Close the socket, and note who does."""
        self.closed_at = self.closed_at or _calls()
        super().terminate()

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:  # noqa: ASYNC109 - as in asyncpg
        """Run a query, or several without arguments."""
        _refuse_copy(query)
        return await super().execute(query, *args, timeout=timeout)

    async def _execute(self, query: str, *args: Any, **options: Any) -> Any:  # every method that fetches
        _refuse_copy(query)
        return await super()._execute(query, *args, **options)  # type: ignore[misc]


def _calls() -> Sequence[tuple[str, int]]:
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(None)]


def _refuse_copy(query: str) -> None:
    if _MAY_COPY.search(query) is None:
        return
    from migrations.files.psql_syntax import find_client_copy  # noqa: PLC0415 - few queries need it

    if find_client_copy(query):
        raise asyncpg.InterfaceError("COPY between server and client: call copy_to_table, copy_from_query or the like")


_KEEPALIVE_OPTIONS = {
    "SO_KEEPALIVE": 1,
    "TCP_KEEPIDLE": 10,  # seconds
    "TCP_KEEPINTVL": 5,  # seconds
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,  # milliseconds
}


def enable_keepalives(connection: Connection) -> None:
    """Make the system report within half a minute that the peer has vanished, as libpq's keepalive parameters do.

    Source: https://man7.org/linux/man-pages/man7/tcp.7.html
    """
    transport = getattr(connection, "_transport", None)  # asyncpg offers no public way to its socket
    peer = transport and transport.get_extra_info("socket")
    if peer is None or peer.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    for name, value in _KEEPALIVE_OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:  # macOS lacks some of them
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            with suppress(OSError):
                peer.setsockopt(level, option, value)
