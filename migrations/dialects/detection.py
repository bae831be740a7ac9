"""Which of the tables that are there is the ledger: by their names and columns, without reading a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from migrations.dialects.catalogue import described
from migrations.dialects.dialect import Dialect, LedgerTable, LedgerUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view that is there.

    Attributes:
        asked: The schema that it was asked for in; None where the search path led to it.
        schema: Its schema.
        name: Its name.
        columns: Their names.
        has_system_columns: Whether its system columns can be read: a table of which our role may read every column.
    """

    asked: str | None
    schema: str
    name: str
    columns: frozenset[str]
    has_system_columns: bool


@dataclass(frozen=True, slots=True)
class Location:
    """Where a ledger is.

    Attributes:
        dialect: How it is written.
        place: Which table.
        exists: Whether it is there; else `place` is where the tool would create it.
        has_system_columns: Whether a change of it can be seen without reading it all, see `Relation`.
    """

    dialect: Dialect
    place: LedgerTable
    exists: bool = True
    has_system_columns: bool = False


def wanted(dialect: Dialect, schema: str | None, table: str | None) -> list[tuple[str | None, str]]:
    """Name the tables to ask for, each with its schema, or None for the search path's first that has it."""
    names = dict.fromkeys(
        (schema or candidate.schema, name)
        for candidate in dialect.candidates()
        for name in (table or candidate.table, *sorted(candidate.beside), *sorted(candidate.apart))
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
        schema: As the user named it; None for the tool's own.
        table: As the user named it; None for the tool's own.
        relations: Which of the `wanted` there are; of those without a schema, the search path's first.
        database: Its name.
        current_schema: Where a table would be created that is given no schema.

    Raises:
        LedgerUnreadable: The table is none of the dialect's, or more than one dialect's ledger is there.
    """
    found: list[tuple[Dialect, Relation]] = []
    for candidate in dialect.candidates():
        for relation in relations:
            if (relation.asked, relation.name) == (schema or candidate.schema, table or candidate.table):
                strangeness = _strangeness(candidate, relation)
                if candidate is dialect and strangeness:
                    _refuse(candidate, relation, strangeness)
                if not strangeness and (candidate is dialect or _in_company(candidate, relation, relations)):
                    found.append((candidate, relation))
    found = list(_most_specific(found))
    if len(found) > 1:
        several = " and ".join(f"{relation.schema}.{relation.name} ({one.name})" for one, relation in found)
        raise LedgerUnreadable(f"more than one ledger is there: {several}; name the dialect, and the schema or table")
    if found:
        one, relation = found[0]
        place = LedgerTable(database, relation.schema, relation.name)
        return Location(one, place, has_system_columns=relation.has_system_columns)
    place = LedgerTable(database, schema or dialect.schema or current_schema, table or dialect.table)
    return Location(dialect, place, exists=False)


def _strangeness(dialect: Dialect, relation: Relation) -> str:
    """Say which columns tell that the table is none of the dialect's; empty when none does."""
    lacking, foreign = sorted(dialect.columns - relation.columns), sorted(dialect.without & relation.columns)
    texts = [f"has no column {', '.join(lacking)}"] if lacking else []
    texts += [f"has the column {', '.join(foreign)}, which that tool does not make"] if foreign else []
    return " and ".join(texts)


def _in_company(dialect: Dialect, relation: Relation, relations: Sequence[Relation]) -> bool:
    neighbours = {other.name for other in relations if other.schema == relation.schema}
    return dialect.beside <= neighbours and not dialect.apart & neighbours


def _most_specific(found: Sequence[tuple[Dialect, Relation]]) -> Iterator[tuple[Dialect, Relation]]:
    """Leave out who is content with fewer columns of the same table: any table with a name could be Umzug's."""
    for dialect, relation in found:
        others = (other for other, same in found if (same.schema, same.name) == (relation.schema, relation.name))
        if not any(dialect.columns < other.columns for other in others):
            yield dialect, relation


def _refuse(dialect: Dialect, relation: Relation, strangeness: str) -> NoReturn:
    others = (other for other in described() if other is not dialect and not _strangeness(other, relation))
    likely = [other.name for other in others if other.table == relation.name]
    hint = f"; it looks like that of {' or '.join(likely)}" if likely else ""
    raise LedgerUnreadable(f"{relation.schema}.{relation.name} is no {dialect.name} ledger: it {strangeness}{hint}")


class _Auto(Dialect):
    """Whichever dialect's tables are there."""

    __slots__ = ()

    def candidates(self) -> Sequence[Dialect]:
        return described()


def _unknown(_row: Mapping[str, Any]) -> NoReturn:
    raise LedgerUnreadable("the dialect is not known yet")  # nobody reads before `locate` has told it


AUTO = _Auto(name="auto", table="", columns=frozenset(), record=_unknown)
DIALECTS = (AUTO,)
