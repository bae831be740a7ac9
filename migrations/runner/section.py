"""One section of one migration to be carried out, and how its failure is told.

Exception
└── StepFailed   a migration failed; what it did is rolled back, or its row says `failed`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from migrations.core.migration import Migration, SectionBody
    from migrations.postgres.errors import StatementFailed

_IN_TRANSACTION = "25001"  # active_sql_transaction


class MigrationFailed(Exception):  # noqa: N818 - says what happened
    """A migration failed; the message has file, line and the reason.

    Attributes:
        sqlstate: The server's code; empty where it was not the server that failed it.
    """

    def __init__(self, message: str, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class InfoCallback(Protocol):
    """Tell of something that is as it should be, or will be."""

    def __call__(self, event: str, text: str, **fields: object) -> None:
        """Tell it."""


def discard(event: str, text: str, **fields: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section of one migration.

    Attributes:
        migration: Which.
        body: Its text and options.
        direction: `up` or `down`.
    """

    migration: Migration
    body: SectionBody
    direction: str

    def failure(self, error: StatementFailed, offset: int = 0) -> MigrationFailed:
        """Give what the server refused, with file and line.

        Args:
            error: With the position in what was sent, where the server knew it.
            offset: Where what was sent begins in the section, in characters; negative where something came before it.
        """
        position = max(0, offset + (error.position or 1) - 1)
        hint = ""
        if error.sqlstate == _IN_TRANSACTION and self.body.transactional:
            hint = f"; write `-- migrate:{self.direction} transaction:false`, and nothing else into this file"
        return MigrationFailed(f"{self.migration.path}:{self.line(position)}: {error}{hint}", error.sqlstate)

    def line(self, position: int) -> int:
        """Give the line of the file on which a character of the section stands."""
        return self.body.line + (self.body.sql or "").count("\n", 0, position)

    def left_open(self) -> MigrationFailed:
        """Give what is to be said of a transaction that a section began and did not end."""
        return MigrationFailed(
            f"{self.migration.path}: left a transaction open, and with it what it did; end it with COMMIT"
        )

    def would_end(self, position: int, statement: str) -> MigrationFailed:
        """Give what is to be said of a statement that would end our transaction, before anything has run."""
        return MigrationFailed(
            f"{self.migration.path}:{self.line(position)}: {statement} would end the transaction in which the "
            "migration is recorded, so nothing of it was run; take it out, or write "
            f"`-- migrate:{self.direction} transaction:false`"
        )

    def ended_early(self) -> MigrationFailed:
        """Give what is to be said of a transaction of ours that a section ended."""
        done, recorded = ("applied", "not recorded") if self.direction == "up" else ("undone", "still recorded")
        reverse = "undo" if self.direction == "up" else "redo"
        return MigrationFailed(
            f"{self.migration.path}: ended the transaction that it runs in, so part of it is {done} and {recorded}; "
            f"{reverse} that part by hand and take COMMIT and ROLLBACK out, or write "
            f"`-- migrate:{self.direction} transaction:false`"
        )
