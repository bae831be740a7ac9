"""The tools of JavaScript and TypeScript."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrations.core.ledger import Record, State
from migrations.core.revision import canonical
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect, LockTable

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


def _node_pg_migrate(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["name"]), State.APPLIED, finished_at=row["run_on"])


NODE_PG_MIGRATE = Dialect(
    name="node-pg-migrate",
    table="pgmigrations",
    columns=frozenset({"id", "name", "run_on"}),
    record=_node_pg_migrate,
    keys=lambda _place: (7241865325823964,),  # `PG_MIGRATE_LOCK_ID`, one for all ledgers of a database
)


def _named(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["name"]), State.APPLIED)


UMZUG = Dialect(
    name="umzug",
    table="SequelizeMeta",
    columns=frozenset({"name"}),
    record=_named,
)
TYPEORM = Dialect(
    name="typeorm",
    table="migrations",
    columns=frozenset({"id", "timestamp", "name"}),
    record=_named,
    versioning=Versioning.TIMESTAMP,
)


def _drizzle(row: Mapping[str, Any]) -> Record:
    return Record(str(row["created_at"]), State.APPLIED, checksum=row["hash"])


DRIZZLE = Dialect(
    name="drizzle",
    schema="drizzle",
    table="__drizzle_migrations",
    columns=frozenset({"hash", "created_at"}),
    record=_drizzle,
    versioning=Versioning.VERSION,
)


def _prisma(row: Mapping[str, Any]) -> Record:
    return Record(
        canonical(row["migration_name"]),
        State(row["state"]),
        checksum=row["checksum"],
        error=row["logs"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


PRISMA = Dialect(
    name="prisma",
    table="_prisma_migrations",
    columns=frozenset({"migration_name", "checksum", "started_at", "finished_at", "rolled_back_at", "logs"}),
    record=_prisma,
    keys=lambda _place: (72707369,),  # of Prisma's schema engine, one for all ledgers of a database
)

DIALECTS = (KNEX, NODE_PG_MIGRATE, UMZUG, TYPEORM, DRIZZLE, PRISMA)
