"""The tools of JavaScript and TypeScript."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrations.dialects.dialect import Dialect, LockTable
from migrations.ledger import Record, State
from migrations.revision import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping


def _knex(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["name"]), State.APPLIED, batch=row["batch"], finished_at=row["migration_time"])


KNEX = Dialect(
    name="knex",
    table="knex_migrations",
    columns=frozenset({"id", "name", "batch", "migration_time"}),
    record=_knex,
    row_lock=LockTable("{table}_lock", by_hand="npx knex migrate:unlock"),
)


def _named(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["name"]), State.APPLIED)


UMZUG = Dialect(
    name="umzug",
    table="SequelizeMeta",
    columns=frozenset({"name"}),
    record=_named,
)

DIALECTS = (KNEX, UMZUG)
