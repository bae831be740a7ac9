"""What can go wrong between us and a database.

DatabaseError
├── Unreachable              nobody answers: refused, unknown host, TLS, out of time
│   ├── NotReady             a server answers but takes no session now: starting, stopping, too many connections
│   └── ConnectionLost       an open session ended
├── AuthenticationFailed     the role or its password is refused
├── DatabaseMissing          the server has no database of this name
├── Misconfigured            the address or a file that it names cannot be used
└── StatementFailed          the server refused a statement
    ├── PermissionMissing    the role lacks a privilege
    ├── TableMissing
    ├── ColumnMissing
    ├── ServerReadOnly       a standby, or a read-only transaction
    └── TimedOut             `statement_timeout`, `lock_timeout`, or cancelled by somebody
"""

from __future__ import annotations


class DatabaseError(Exception):
    """Something between us and the database; see the module for the tree."""


class Unreachable(DatabaseError):  # noqa: N818 - says what happened
    """Nobody answers."""


class NotReady(Unreachable):
    """A server answers but takes no session now."""


class ConnectionLost(Unreachable):
    """An open session ended."""


class AuthenticationFailed(DatabaseError):  # noqa: N818 - says what happened
    """The role or its password is refused."""


class DatabaseMissing(DatabaseError):  # noqa: N818 - says what happened
    """The server has no database of this name."""


class Misconfigured(DatabaseError):  # noqa: N818 - says what happened
    """The address or a file that it names cannot be used."""


class StatementFailed(DatabaseError):  # noqa: N818 - says what happened
    """The server refused a statement.

    Attributes:
        sqlstate: Its code (PostgreSQL, Appendix A).
        position: Where in the statement, in characters from 1; None when the server does not say.
        column: The column that it is about, as TABLE.COLUMN; None when the server does not say.
    """

    def __init__(
        self, message: str, sqlstate: str = "", position: int | None = None, column: str | None = None
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.position = position
        self.column = column


class PermissionMissing(StatementFailed):
    """The role lacks a privilege."""


class TableMissing(StatementFailed):
    """The table is not there."""


class ColumnMissing(StatementFailed):
    """The table lacks a column."""


class ServerReadOnly(StatementFailed):
    """The server or the transaction takes no writes."""


class TimedOut(StatementFailed):
    """A statement was cancelled, by a time limit or by somebody."""
