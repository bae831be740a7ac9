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
_LETS_GO = re.compile(r"\bpg_advisory_unlock(_all)?\b|\bdiscard\s+all\b|\.reset\(\)", re.IGNORECASE)


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
        """Return the line of the file that has a character of the section."""
        return self.body.line + (self.body.sql or "").count("\n", 0, position)

    def statement_error(self, error: StatementFailed, offset: int = 0) -> MigrationFailed:
        """Return the error of a statement with its file and line.

        Args:
            error: Its position, where the server reports one, refers to the message that was sent.
            offset: Where the message begins in the section, in characters; negative where other statements precede the
                section in the message.
        """
        position = max(0, offset + (error.position or 1) - 1)
        hint = ""
        if error.sqlstate == _IN_TRANSACTION and self.body.transactional:
            hint = f"; write `-- migrate:{self.direction} transaction:false`, and nothing else into this file"
        return MigrationFailed(f"{self.migration.path}:{self.line(position)}: {error}{hint}", error.sqlstate)

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
            position: Of the statement that did, in characters from 0; None to look for it in the text.
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

    def find_line(self, pattern: re.Pattern[str]) -> int | None:
        """Return the first line of the file, within the section, that the pattern matches; None where none does."""
        if self.body.sql is not None:
            found = pattern.search(self.body.sql)
            return self.line(found.start()) if found else None
        lines = linecache.getlines(str(self.migration.path))
        return next((number for number, line in enumerate(lines, 1) if pattern.search(line)), None)

    def ended_transaction_error(self) -> MigrationFailed:
        """Return the error of a section that has ended our transaction, so that the ledger row was refused."""
        done, recorded = ("applied", "not recorded") if self.direction == "up" else ("undone", "still recorded")
        reverse = "undo" if self.direction == "up" else "redo"
        return MigrationFailed(
            f"{self.migration.path}: ended the transaction that it runs in, so part of it is {done} and {recorded}; "
            f"{reverse} that part by hand and take COMMIT and ROLLBACK out, or write "
            f"`-- migrate:{self.direction} transaction:false`"
        )
