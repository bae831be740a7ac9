"""Translates what asyncpg raises into the errors of `postgres.errors`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import asyncpg

from migrations.core.text import clean, shorten
from migrations.postgres.errors import (
    INSUFFICIENT_PRIVILEGE,
    AnswerUnreadable,
    AuthenticationFailed,
    ColumnMissing,
    ConnectionLost,
    DatabaseError,
    DatabaseMissing,
    NotReady,
    PermissionMissing,
    ProtocolBroken,
    RowsHidden,
    ServerReadOnly,
    StatementFailed,
    TableMissing,
    TimedOut,
    TooManyConnections,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

_ERROR_BY_SQLSTATE: Mapping[str, type[StatementFailed]] = {
    "22021": AnswerUnreadable,  # a SQL_ASCII database stores any byte, but sends only what the client can read
    "22P05": AnswerUnreadable,
    "25006": ServerReadOnly,
    INSUFFICIENT_PRIVILEGE: PermissionMissing,
    "42703": ColumnMissing,
    "42P01": TableMissing,
    "55P03": TimedOut,
    "57014": TimedOut,
}
MAX_MESSAGE = 10_000
"""Characters of a server's message that are shown: a server has sent 50 MB. A long query in it has some thousands."""

_TOO_MANY_CONNECTIONS = "53300"
_NOT_READY = {"57P03"}  # starting up, shutting down or in recovery
_SESSION_ENDED = {"57P01", "57P02", "57P05"}  # by an administrator, by a crash of another backend, as idle
_DATABASE_MISSING = "3D000"
PROTOCOL_VIOLATION = "08P01"
OUT_OF_PROTOCOL = "08P00"
"""SQLSTATE of what `protocol_guard` refuses: in class 08, connection exceptions, and not used by PostgreSQL."""


def translate(error: asyncpg.PostgresError, prefix: str = "") -> DatabaseError:
    """Return the error of `postgres.errors` for a SQLSTATE (PostgreSQL, Appendix A)."""
    state, message = str(error.sqlstate), prefix + describe(error)
    if state == _TOO_MANY_CONNECTIONS:
        return TooManyConnections(message)
    if state in _NOT_READY:
        return NotReady(message)
    if state in _SESSION_ENDED or state.startswith("08"):
        return ProtocolBroken(message) if state == OUT_OF_PROTOCOL else ConnectionLost(message)
    if state.startswith("28"):
        return AuthenticationFailed(message)
    if state == _DATABASE_MISSING:
        return DatabaseMissing(message)
    position = str(error.position or "")
    kind = _ERROR_BY_SQLSTATE.get(state, StatementFailed)
    # Every missing privilege has this SQLSTATE, and the message is in the server's language. The name of the function
    # that raised the error is the same everywhere.
    if kind is PermissionMissing and getattr(error, "server_source_function", None) == "check_enable_rls":
        kind = RowsHidden
    table, column = getattr(error, "table_name", None), getattr(error, "column_name", None)
    return kind(message, state, int(position) if position.isdigit() else None, column and f"{table}.{column}")


def decode(error: UnicodeDecodeError, encoding: str = "") -> str:
    """Decode a text that asyncpg could not, as well as possible.

    Args:
        error: What asyncpg has raised.
        encoding: PostgreSQL's name of the encoding in which the server may write; empty where it is not known.
    """
    # Python calls PostgreSQL's WIN1251 and KOI8R cp1251 and koi8_r; the other names it knows.
    codec = re.sub("koi8(?=[ru])", "koi8_", encoding.lower().replace("win", "cp"))
    try:
        text = error.object.decode(codec)
    except (LookupError, UnicodeDecodeError):
        text = error.object.decode("cp1252", errors="replace")
    return f"{text} (a message in another encoding than UTF-8)"


def describe(error: Exception) -> str:
    """Return an error's message, without the errno that Python puts before it."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return clean(shorten(str(error), MAX_MESSAGE), lines=True) or type(error).__name__
