"""The section of a migration that runs, and the errors it ends with.

Exception
└── MigrationFailed   a migration failed; it is rolled back, or its row in the ledger says `failed`
"""

from __future__ import annotations

import linecache
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrations.core.migration import Migration, SectionBody
    from migrations.postgres.errors import StatementFailed

_IN_TRANSACTION = "25001"  # active_sql_transaction
# What may release our advisory lock; the last is a method of asyncpg's connection.
_LETS_GO = r"(?i)\bpg_advisory_unlock(_all)?\b|\bdiscard\s+all\b|\.reset\(\)"
_UNIQUE_VIOLATION = "23505"
_RESTART_SEQUENCE = "`select setval(pg_get_serial_sequence('{table}', 'id'), max(id)) from {table}`"


class MigrationFailed(Exception):  # noqa: N818 - says what happened
    """A migration failed; the message has file, line and reason.

    Attributes:
        sqlstate: The server's error code; empty where the error is not the server's.
    """

    def __init__(self, message: str, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Section:
    """One section of one migration.

    Attributes:
        migration: The migration.
        body: The section's text and options.
        direction: `up` or `down`.
    """

    migration: Migration
    body: SectionBody
    direction: str

    def line(self, position: int) -> int:
        """Return the line of the file at a position of the section, in characters from 0."""
        return self.body.line + (self.body.sql or "").count("\n", 0, position)

    def only_statement(self, begin: int = 0, end: int | None = None) -> int | None:
        """Return the offset of the only statement of the section, or of a part of it; None where there are several."""
        from migrations.files.lexer import find_code  # noqa: PLC0415 - errors alone need it
        from migrations.files.psql_syntax import count_statements  # noqa: PLC0415

        sql = (self.body.sql or "")[begin:end]
        return begin + find_code(sql) if count_statements(sql) == 1 else None

    def statement_error(self, error: StatementFailed, position: int | None) -> MigrationFailed:
        """Return the error of a statement with its file, and with its line where the position is known."""
        hint = ""
        if error.sqlstate == _IN_TRANSACTION and self.body.transactional:
            hint = f"; write `-- migrate:{self.direction} transaction:false`, and nothing else into this file"
        line = "" if position is None else f":{self.line(position)}"
        return MigrationFailed(f"{self.migration.path}{line}: {error}{hint}", error.sqlstate)

    def incomplete_error(self, sqlstate: str) -> MigrationFailed:
        """Return the error of a section whose last statement is not complete."""
        line = self.line(len((self.body.sql or "").rstrip()))
        return MigrationFailed(
            f"{self.migration.path}:{line}: syntax error at the end of the section: the last statement is not complete",
            sqlstate,
        )

    def entry_error(
        self, error: StatementFailed, table: str, outcome: str = "so all of it is rolled back"
    ) -> MigrationFailed:
        """Return the error of our write to the ledger, after the section's own statements succeeded."""
        hint = ""
        if error.sqlstate == _UNIQUE_VIOLATION:
            hint = f"\nHINT:  If the sequence of the column id is behind, as after a replication: {_RESTART_SEQUENCE}"
        return MigrationFailed(
            f"{self.migration.path}: its statements succeeded, but its row in the ledger {table} could not be written, "
            f"{outcome}: {error}{hint.format(table=table)}",
            error.sqlstate,
        )

    def ledger_error(self, error: StatementFailed, table: str) -> MigrationFailed:
        """Return the error of a statement about the ledger that is not sent with the section."""
        return MigrationFailed(
            f"{self.migration.path}: its row in the ledger {table} could not be written: {error}; `ledgergate migrate "
            "status` shows what the ledger has",
            error.sqlstate,
        )

    def open_transaction_error(self) -> MigrationFailed:
        """Return the error of a section that began a transaction and did not end it."""
        return MigrationFailed(
            f"{self.migration.path}: left a transaction open, so what it did is rolled back; end it with COMMIT"
        )

    def transaction_end_error(self, position: int, statement: str) -> MigrationFailed:
        """Return the error of a section with a statement that would end our transaction, found before anything ran."""
        return MigrationFailed(
            f"{self.migration.path}:{self.line(position)}: {statement} would end the transaction in which the "
            "migration is recorded, so nothing of it was run; take it out, or write "
            f"`-- migrate:{self.direction} transaction:false`"
        )

    def lost_lock_error(self, position: int | None = None) -> MigrationFailed:
        """Return the error of a section that has let go of the ledger's lock.

        Args:
            position: Where the statement that released it is, in characters from 0; None to look for it in the text.
        """
        line = self.find_line(_LETS_GO) or self.body.line if position is None else self.line(position)
        rest = "all of it is rolled back" if self.body.transactional else "what follows it was not run"
        return MigrationFailed(
            f"{self.migration.path}:{line}: let go of the advisory lock that keeps other runs out (as "
            f"pg_advisory_unlock_all and DISCARD ALL do), so {rest} and nothing more is recorded; release your own "
            "locks one by one with pg_advisory_unlock(KEY), or take them with pg_advisory_xact_lock(KEY), which ends "
            "with the transaction"
        )

    def lock_not_held_error(self) -> MigrationFailed:
        """Return the error of a section that was not begun, since the session no longer holds the ledger's lock."""
        return MigrationFailed(
            f"{self.migration.path}:{self.body.line}: nothing of it was run: the session no longer holds the advisory "
            "lock that keeps other runs out, which something that an earlier migration started has let go; run it again"
        )

    def find_line(self, pattern: str) -> int | None:
        """Return the first line of the file, within the section, that the pattern matches; None where none does."""
        if self.body.sql is not None:
            found = re.search(pattern, self.body.sql)
            return self.line(found.start()) if found else None
        lines = linecache.getlines(str(self.migration.path))
        return next((number for number, line in enumerate(lines, 1) if re.search(pattern, line)), None)

    def ended_transaction_error(self) -> MigrationFailed:
        """Return the error of a section that has ended our transaction, so that the ledger row was refused."""
        done, recorded = ("applied", "not recorded") if self.direction == "up" else ("undone", "still recorded")
        reverse = "undo" if self.direction == "up" else "redo"
        return MigrationFailed(
            f"{self.migration.path}: ended the transaction that it runs in, so part of it is {done} and {recorded}; "
            f"{reverse} that part by hand and take COMMIT and ROLLBACK out, or write "
            f"`-- migrate:{self.direction} transaction:false`"
        )
