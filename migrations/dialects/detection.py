"""Decides which of the existing tables is the ledger, by names and columns, without reading a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from migrations.dialects.dialect import LedgerTable, LedgerUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.dialects.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Relation:
    """An existing table or view.

    Attributes:
        requested_schema: The schema in which it was looked up; None where it was looked up in the search path.
        schema: Name of its schema.
        name: Its own name.
        columns: Names of its columns.
        has_system_columns: Whether its system columns can be read: it is a table, and our role may read every column.
        has_row_security: Whether row-level security may hide rows of it from our role.
        partial_kind: What it is where it may hold only a part of the ledger, such as `a view`; empty for a table.
    """

    requested_schema: str | None
    schema: str
    name: str
    columns: frozenset[str]
    has_system_columns: bool
    has_row_security: bool = False
    partial_kind: str = ""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a ledger is, and how it is written.

    Attributes:
        dialect: How it is written.
        table: Its table.
        exists: Whether the table exists; if not, `table` is where the tool would create it.
        has_system_columns: Whether system columns alone show a change, without reading the rows; see `Relation`.
        has_row_security: See `Relation`.
        partial_kind: See `Relation`.
    """

    dialect: Dialect
    table: LedgerTable
    exists: bool = True
    has_system_columns: bool = False
    has_row_security: bool = False
    partial_kind: str = ""

    @property
    def missing_table(self) -> str:
        """Schema and name of the table where it does not exist; empty where it does, or where no table is meant."""
        return "" if self.exists or not self.table.name else f"{self.table.schema}.{self.table.name}"


def tables_to_look_up(dialect: Dialect, schema: str | None, table: str | None) -> list[tuple[str | None, str]]:
    """Return the tables that `locate` needs to know of: schema and name, with None for the first in the search path."""
    names = dict.fromkeys(
        (schema or candidate.schema, name)
        for candidate in dialect.candidates()
        for name in (
            table or candidate.table,
            *sorted(candidate.companion_tables),
            *sorted(candidate.absent_tables),
        )
    )
    return list(names)


def locate(
    dialect: Dialect,
    schema: str | None,
    table: str | None,
    relations: Sequence[Relation],
    *,
    database: str,
    current_schema: str,
) -> Location:
    """Decide which table is the ledger.

    Args:
        dialect: As the user named it.
        schema: As the user named it; None for the tool's default.
        table: As the user named it; None for the tool's default.
        relations: Which of `tables_to_look_up` exist; of those without a schema, the first in the search path.
        database: Name of the database.
        current_schema: The schema in which PostgreSQL creates a table whose name has no schema.

    Raises:
        LedgerUnreadable: The table is not a ledger of the dialect, or there are ledgers of several dialects.
    """
    found: list[tuple[Dialect, Relation]] = []
    for candidate in dialect.candidates():
        for relation in relations:
            if (relation.requested_schema, relation.name) == (schema or candidate.schema, table or candidate.table):
                mismatch = _column_mismatch(candidate, relation)
                if candidate is dialect and mismatch:
                    _refuse(candidate, relation, mismatch)
                if not mismatch and (candidate is dialect or _fits_neighbours(candidate, relation, relations)):
                    found.append((candidate, relation))
    found = list(_most_specific(found))
    if len(found) > 1:
        several = " and ".join(f"{relation.schema}.{relation.name} ({one.name})" for one, relation in found)
        raise LedgerUnreadable(f"more than one ledger is there: {several}; name the dialect, and the schema or table")
    if found:
        one, relation = found[0]
        table_found = LedgerTable(database, relation.schema, relation.name)
        return Location(
            one,
            table_found,
            has_system_columns=relation.has_system_columns,
            has_row_security=relation.has_row_security,
            partial_kind=relation.partial_kind,
        )
    default = LedgerTable(database, schema or dialect.schema or current_schema, table or dialect.table)
    return Location(dialect, default, exists=False)


def _column_mismatch(dialect: Dialect, relation: Relation) -> str:
    """Describe the columns that show that the table is not a ledger of the dialect; empty where there are none."""
    missing, foreign = sorted(dialect.columns - relation.columns), sorted(dialect.absent_columns & relation.columns)
    texts = [f"has no column {', '.join(missing)}"] if missing else []
    texts += [f"has the column {', '.join(foreign)}, which that tool does not make"] if foreign else []
    return " and ".join(texts)


def _fits_neighbours(dialect: Dialect, relation: Relation, relations: Sequence[Relation]) -> bool:
    neighbours = {other.name for other in relations if other.schema == relation.schema}
    return dialect.companion_tables <= neighbours and not dialect.absent_tables & neighbours


def _most_specific(found: Sequence[tuple[Dialect, Relation]]) -> Iterator[tuple[Dialect, Relation]]:
    """Drop dialects that need only a subset of the columns: any table with a column `name` could be Umzug's."""
    for dialect, relation in found:
        others = (other for other, same in found if (same.schema, same.name) == (relation.schema, relation.name))
        if not any(dialect.columns < other.columns for other in others):
            yield dialect, relation


def _refuse(dialect: Dialect, relation: Relation, mismatch: str) -> NoReturn:
    from migrations.dialects.catalogue import CONCRETE_DIALECTS  # noqa: PLC0415 - `migrate up` needs the native one only

    others = (other for other in CONCRETE_DIALECTS if other is not dialect and not _column_mismatch(other, relation))
    likely = [other.name for other in others if other.table == relation.name]
    hint = f"; it looks like that of {' or '.join(likely)}" if likely else ""
    raise LedgerUnreadable(f"{relation.schema}.{relation.name} is no {dialect.name} ledger: it {mismatch}{hint}")
