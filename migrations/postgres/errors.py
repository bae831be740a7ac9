"""Errors of database sessions.

DatabaseError
├── Unreachable              no server answers: refused, unknown host, TLS, timeout
│   ├── NotReady             the server accepts no session now: starting or stopping
│   │   └── TooManyConnections  it has as many sessions as it may have (SQLSTATE 53300)
│   ├── ProtocolBroken       the server sends what PostgreSQL does not
│   └── ConnectionLost       an open session ended
├── AuthenticationFailed     the server refuses the role or its password
├── DatabaseMissing          the server has no database of this name
├── Misconfigured            the address, or a file that it names, is invalid
│   └── AddressRefused       the installation does not allow the server
└── StatementFailed          the server refused a statement
    ├── MessageUnreadable    the server's message is in another encoding; it may have been a notice only
    ├── PermissionMissing    the role lacks a privilege
    │   └── RowsHidden       row-level security would hide rows from the role
    ├── TableMissing
    ├── ColumnMissing
    ├── ServerReadOnly       a standby, or a read-only transaction
    ├── AnswerUnreadable     a value cannot be decoded, or not be sent as UTF-8
    └── TimedOut             `statement_timeout`, `lock_timeout`, or cancelled by another session
"""

from __future__ import annotations

from typing import Any

INSUFFICIENT_PRIVILEGE = "42501"
"""SQLSTATE of a right that is missing. Source: PostgreSQL, Appendix A"""


class DatabaseError(Exception):
    """Base class; the tree is in the docstring of the module."""


class Unreachable(DatabaseError):  # noqa: N818 - says what happened
    """No server answers, or not in time."""


class NotReady(Unreachable):
    """The server answers, but accepts no session now."""


class TooManyConnections(NotReady):
    """The server has as many sessions as it may have."""


class ProtocolBroken(Unreachable):
    """The server sends what PostgreSQL does not."""


class ConnectionLost(Unreachable):
    """An open session ended."""


class AuthenticationFailed(DatabaseError):  # noqa: N818 - says what happened
    """The server refuses the role or its password."""


class DatabaseMissing(DatabaseError):  # noqa: N818 - says what happened
    """The server has no database of this name."""


class Misconfigured(DatabaseError):  # noqa: N818 - says what happened
    """The address, or a file that it names, is invalid."""


class AddressRefused(Misconfigured):
    """The installation does not allow the server. The message names no host."""


class StatementFailed(DatabaseError):  # noqa: N818 - says what happened
    """The server refused a statement.

    Attributes:
        sqlstate: The error code (PostgreSQL, Appendix A).
        position: Where in the statement, in characters from 1; None where the server does not report it.
        column: The column that the error concerns, as TABLE.COLUMN; None where the server does not report it.
    """

    def __init__(
        self, message: str, sqlstate: str = "", position: int | None = None, column: str | None = None
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.position = position
        self.column = column


class MessageUnreadable(StatementFailed):
    """The server sent a message in another encoding than UTF-8; the statement may have succeeded."""


class PermissionMissing(StatementFailed):
    """The role lacks a privilege."""


class RowsHidden(PermissionMissing):
    """Row-level security would hide rows from the role, so what it reads may be only a part.

    Attributes:
        cause: The table and its policies, without the role; empty where they are not known.
    """

    def __init__(self, message: str, *args: Any, cause: str = "") -> None:
        super().__init__(message, *args)
        self.cause = cause


class TableMissing(StatementFailed):
    """The table does not exist."""


class ColumnMissing(StatementFailed):
    """A column does not exist."""


class ServerReadOnly(StatementFailed):
    """The server or the transaction accepts no writes."""


class AnswerUnreadable(StatementFailed):
    """A value of the answer cannot be decoded, or the server cannot send a text as UTF-8."""


class TimedOut(StatementFailed):
    """A statement was cancelled by a time limit or by another session."""
