"""A file of SQL as lint reads it, whichever tool runs it: its sections, and the transaction that each runs in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from migrations.lint.rule import OWN_MIGRATION

if TYPE_CHECKING:
    from migrations.core.migration import Problem


class TransactionMode(Enum):
    """Which transaction a tool runs the statements of a section in."""

    OWN = auto()
    """One that the tool begins and commits; BEGIN and COMMIT in the section break it."""
    NONE = auto()
    """None: each statement commits by itself, except between BEGIN and COMMIT."""
    QUERY = auto()
    """The section is sent as one query. PostgreSQL runs several statements of it in one transaction, up to a COMMIT;
    a single one commits by itself.

    Source: https://www.postgresql.org/docs/current/protocol-flow.html, "Multiple Statements in a Simple Query"
    """
    DETECTED = auto()
    """Flyway: OWN, or NONE for a section whose statements, apart from SET and COMMENT, PostgreSQL all refuses inside a
    transaction.

    Source: `detectCanExecuteInTransaction` of Flyway's PostgreSQLParser
    """
    UNKNOWN = auto()
    """The tool is not known: OWN, or NONE for a section with BEGIN, COMMIT, or a statement that PostgreSQL refuses
    inside a transaction."""


@dataclass(frozen=True, slots=True)
class ScriptSection:
    """A part of a script that is run as a whole.

    Attributes:
        sql: Its text.
        offset: Where it begins in the text of the file, in characters.
        mode: The transaction that it runs in.
        is_down: Whether it undoes the migration.
    """

    sql: str
    offset: int = 0
    mode: TransactionMode = TransactionMode.OWN
    is_down: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """A file of SQL.

    Attributes:
        path: The file, as findings name it.
        revision: What the tool's ledger calls the migration.
        text: The whole text.
        sections: What is run, in order; empty for a Python migration.
        head: Length of the head, the text before the first section: a `lint:allow` in it is for the whole file.
        compatible_from: For a migration that is marked `contract`, the oldest revision whose images can run after it;
            None for an expand migration.
        lacks_down: Offset at which the missing down section is reported; None where none is missing.
        own_migration: How the tool runs a statement outside a transaction, as a comment: it replaces OWN_MIGRATION in
            safe ways.
        native: Whether `ledgergate migrate` runs it, so that `-- migrate:up contract` can be used.
        snapshot: Whether the file is a dump of the whole schema, which is loaded into an empty database.
        is_judged: Whether to report its findings; if not, it only changes the schema.
        problems: What is wrong with the file besides its SQL.
    """

    path: str
    revision: str
    text: str
    sections: tuple[ScriptSection, ...] = ()
    head: int = 0
    compatible_from: str | None = None
    lacks_down: int | None = None
    own_migration: str = OWN_MIGRATION
    native: bool = False
    snapshot: bool = False
    is_judged: bool = True
    problems: tuple[Problem, ...] = ()
