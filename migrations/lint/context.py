"""What a rule knows about a statement besides its parse tree: where it runs and what earlier statements made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from migrations.lint.parser import Name
    from migrations.lint.schema import Schema


@dataclass(frozen=True, slots=True)
class StatementContext:
    """Where a statement runs.

    Attributes:
        schema: What the statements before it have made.
        file: Index of its file in the directory.
        transaction: Number of the transaction that it runs in; None where it commits by itself.
        transactional: Whether the tool begins and commits the transaction of the whole section.
        contract: Whether the migration is marked `contract`, so that it may break older images.
        deferred: Whether images neither need it nor wait for it: it is one of the contract migrations at the end.
        previous_revision: The revision before this migration; this one's revision where it is the first.
        section_nodes: Parse trees of all statements of the section.
        version: Major version of the oldest PostgreSQL that runs it; None for any that is supported.
        native: Whether `ledgergate migrate` runs the file.
    """

    schema: Schema
    file: int
    transaction: int | None
    transactional: bool
    contract: bool
    previous_revision: str
    section_nodes: tuple[Any, ...]
    version: int | None = None
    native: bool = True
    deferred: bool = False

    def proves_not_null(self, table: Name, column: str) -> bool:
        """Return whether a column is known to contain no NULL, so that SET NOT NULL scans no row.

        Source: `NotNullImpliedByRelConstraints` of PostgreSQL (tablecmds.c), which uses CHECKs from version 12 on
        """
        return self.schema.proves_not_null(table, column, by_check=not self.is_before(12))

    def is_before(self, version: int) -> bool:
        """Return whether the oldest PostgreSQL that runs the statement is known, and older than a major version."""
        return self.version is not None and self.version < version

    def adds_nothing(self, table: Name, command: Any) -> bool:
        """Return whether ADD COLUMN IF NOT EXISTS names an existing column, so that it does nothing."""
        return bool(command.missing_ok) and self.schema.column(table, command.def_.colname) is not None

    def is_new(self, table: Name) -> bool:
        """Return whether this file creates the table: no older image uses it, so a lock on it blocks no one."""
        return self.schema.is_new(table, self.file)

    def type_is_new(self, name: Name) -> bool:
        """Return whether this file creates the type, domain or schema."""
        return self.schema.type_is_new(name, self.file)
