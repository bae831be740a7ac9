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
        transactional: Whether the whole section runs in a transaction.
        contract: Whether the migration is marked `contract`, so that it may break older images.
        previous_revision: The revision before this migration; its own where it is the first.
        section_nodes: Parse trees of all statements of the section.
    """

    schema: Schema
    file: int
    transaction: int | None
    transactional: bool
    contract: bool
    previous_revision: str
    section_nodes: tuple[Any, ...]

    def is_new(self, table: Name) -> bool:
        """Whether this file creates the table: no older image uses it, so a lock on it blocks no one."""
        return self.schema.is_new(table, self.file)

    def type_is_new(self, name: Name) -> bool:
        """Whether this file creates the type, domain or schema."""
        return self.schema.type_is_new(name, self.file)
