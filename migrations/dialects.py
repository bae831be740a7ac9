"""How each migration tool writes its ledger: one frozen description per tool."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from migrations.ledger import Record, State
from migrations.revision import canonical
from migrations.statements import bind, load, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class DialectError(LookupError):
    """A dialect that nobody has described; the message lists those that somebody has."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Describe the ledger of one tool.

    Attributes:
        name: As users write it in a gate's `spec.ledger.dialect`.
        schema: Where the tool puts its table unless told otherwise.
        table: What it calls the table unless told otherwise.
        query: Reads every record, oldest revision first; `{table}` stands for the table.
        record: Makes a record of one row.
    """

    name: str
    schema: str
    table: str
    query: str
    record: Callable[[Mapping[str, Any]], Record]

    def relation(self, schema: str | None = None, table: str | None = None) -> str:
        """Give the quoted, qualified name of the table, with the tool's defaults for what is None."""
        return quoted(schema or self.schema, table or self.table)

    def select(self, schema: str | None = None, table: str | None = None) -> str:
        """Give the statement that reads the ledger."""
        return bind(self.query, table=self.relation(schema, table))


def find(name: str) -> Dialect:
    """Give the dialect of this name.

    Raises:
        DialectError: There is none.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise DialectError(f"expected a ledger dialect ({', '.join(sorted(DIALECTS))}), got {name!r}") from None


def _native(row: Mapping[str, Any]) -> Record:
    return Record(
        revision=canonical(row["revision"]),
        state=State(row["state"]),
        checksum=row["checksum"],
        batch=row["batch"],
        compatible_from=row["compatible_from"],
        error=row["error"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        duration_ms=row["duration_ms"],
        applied_by=row["applied_by"],
    )


NATIVE = Dialect(
    name="ledgergate",
    schema="public",
    table="ledgergate_migrations",
    query=load("ledgergate")["read"],
    record=_native,
)

DIALECTS: Mapping[str, Dialect] = MappingProxyType({dialect.name: dialect for dialect in (NATIVE,)})
