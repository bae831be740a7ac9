"""Ledgers of tools that no registry offers, made by their documented DDL with the rows that they are known to write.

Atlas and pgroll were run by hand, built from their public sources of June and May 2026, to see that they write these;
Ecto's table is that of its `Ecto.Migration.SchemaMigration`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.core.ledger import State
from migrations.dialects.catalogue import find_dialect
from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.reader.activity import find_active_migration
from migrations.reader.reader import LedgerSource, locate_ledger, read_ledger
from testbed.tools.reading import PATIENCE, snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Connection = asyncpg.Connection[asyncpg.Record]

ATLAS = """\
create schema atlas_schema_revisions;
create table atlas_schema_revisions.atlas_schema_revisions (
    version varchar not null primary key,
    description varchar not null,
    type bigint not null default 2,
    applied bigint not null default 0,
    total bigint not null default 0,
    executed_at timestamptz not null,
    execution_time bigint not null,
    error text,
    error_stmt text,
    hash varchar not null,
    partial_hashes jsonb,
    operator_version varchar not null
)
"""
PGROLL = """\
create schema pgroll;
create table pgroll.migrations (
    schema name not null,
    name text not null,
    migration jsonb not null,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    parent text,
    done boolean not null default false,
    resulting_schema jsonb not null default '{}',
    migration_type varchar(32) default 'pgroll',
    primary key (schema, name),
    foreign key (schema, parent) references pgroll.migrations (schema, name)
)
"""
ECTO = "create table schema_migrations (version bigint primary key, inserted_at timestamp(0))"
FIRST, SECOND, THIRD = (f"2025010100000{number}_{name}" for number, name in enumerate(("one", "two", "three"), 1))


@asynccontextmanager
async def other_session(database: str, application: str) -> AsyncIterator[Connection]:
    """Open a session with the `application_name` of a tool."""
    connection = await asyncpg.connect(database, server_settings={"application_name": application})
    try:
        yield connection
    finally:
        await connection.close()


async def atlas(connection: Connection, name: str, **columns: object) -> None:
    """Record a file as Atlas does."""
    version, description = (name, "") if name.startswith(".") else name.split("_", 1)
    row = {"type": 2, "applied": 2, "total": 2, "error": None} | columns
    await connection.execute(
        "insert into atlas_schema_revisions.atlas_schema_revisions values"
        " ($1, $2, $3, $4, $5, now(), 609189, $6, null, 'h', 'null', 'Atlas CLI') on conflict (version)"
        " do update set type = excluded.type, applied = excluded.applied, error = excluded.error",
        version,
        description,
        *row.values(),
    )


async def test_atlas_as_documented(database: str, connection: Connection) -> None:
    """A file with no statement left is applied; any other has failed, or is running while Atlas holds its lock."""
    await connection.execute(ATLAS)
    await atlas(connection, ".atlas_cloud_identifier", applied=0, total=0)
    await atlas(connection, FIRST)
    await atlas(connection, SECOND)
    ledger = await snapshot("atlas", database)
    assert ledger.applied == ("20250101000001", "20250101000002")
    assert [ledger.contains(name) for name in (FIRST, SECOND, THIRD)] == [True, True, False]
    await atlas(connection, THIRD, applied=1, error="pq: division by zero")
    ledger = await snapshot("atlas", database)
    assert (ledger.dirty and ledger.dirty.state) == State.FAILED
    assert ledger.dirty_for(THIRD) is ledger.dirty
    assert ledger.dirty_for(SECOND) is None
    await connection.execute("select pg_advisory_lock(2686470616)")  # seen in pg_locks while Atlas ran
    assert ((await snapshot("atlas", database)).dirty or ledger.records[0]).state is State.RUNNING
    await connection.execute("select pg_advisory_unlock_all()")
    await atlas(connection, THIRD, applied=1, type=6, error="pq: division by zero")  # `atlas migrate set`
    ledger = await snapshot("atlas", database)
    assert (ledger.dirty, ledger.head) == (None, "20250101000003")


async def test_atlas_never_runs_a_file_older_than_its_first_row(database: str, connection: Connection) -> None:
    """The first row is a baseline or a checkpoint: the ledger is complete for an image that knows the older files."""
    await connection.execute(ATLAS)
    await atlas(connection, SECOND, type=1, applied=0, total=0)  # `atlas migrate apply --baseline`
    ledger = await snapshot("atlas", database)
    assert [ledger.contains(name) for name in (FIRST, SECOND, THIRD)] == [True, True, False]
    assert (ledger.head, ledger.count_newer(FIRST)) == ("20250101000002", 1)
    for known in ([FIRST], [FIRST, SECOND]):
        assert ledger.is_complete_for(find_dialect("atlas").declare(known))


async def pgroll(
    connection: Connection, name: str, *, done: bool, schema: str = "public", kind: str = "pgroll"
) -> None:
    """Record a migration as pgroll does."""
    await connection.execute(
        "insert into pgroll.migrations (schema, name, migration, parent, done, migration_type) values ($1, $2, '{}',"
        " (select name from pgroll.migrations where schema = $1 order by created_at desc limit 1), $3, $4)",
        schema,
        name,
        done,
        kind,
    )


async def test_pgroll_as_documented(database: str, connection: Connection) -> None:
    """A migration that is started serves the image that expects it, even before it is completed."""
    await connection.execute(PGROLL)
    await pgroll(connection, "01_users", done=True)
    await pgroll(connection, "01_users_20250101000000000000", done=True, kind="inferred")
    await pgroll(connection, "99_elsewhere", done=True, schema="other")
    assert (await snapshot("pgroll", database)).applied == ("01_users",)
    await pgroll(connection, "02_mail", done=False)
    async with other_session(database, "pgroll-state"):
        ledger = await snapshot("pgroll", database)
        assert (ledger.dirty and (ledger.dirty.revision, ledger.dirty.state)) == ("02_mail", State.RUNNING)
    async with other_session(database, "pgroll-state") as start:
        await start.execute('create schema "public_02_mail"')
        assert not (await snapshot("pgroll", database)).contains("02_mail")  # rows may still be filled in
    ledger = await snapshot("pgroll", database)
    assert (ledger.head, ledger.dirty) == ("02_mail", None)
    await connection.execute('drop schema "public_02_mail"')  # as if `pgroll start` had died
    ledger = await snapshot("pgroll", database)
    assert (ledger.dirty and ledger.dirty.state) == State.FAILED
    assert ledger.is_complete_for(find_dialect("pgroll").declare(["01_users"]))


async def test_ecto_as_documented(database: str, connection: Connection) -> None:
    """Its column `inserted_at` distinguishes its table from those of three other tools with the same name."""
    await connection.execute(ECTO)
    assert (await snapshot("ecto", database)).head is None
    await connection.execute("insert into schema_migrations values (20250101000002, now()), (20250101000001, now())")
    ledger = await snapshot("ecto", database)
    assert ledger.applied == ("20250101000001", "20250101000002")
    assert ledger.records[0].finished_at is not None
    assert abs((datetime.now(UTC) - ledger.records[0].finished_at).total_seconds()) < 300
    assert ledger.is_complete_for(find_dialect("ecto").declare([f"{SECOND}.exs", f"{FIRST}.exs"]))


@pytest.mark.parametrize("name", ["goose", "sqlx", "atlas"])
async def test_a_tool_that_holds_a_known_key_is_running(name: str, database: str, connection: Connection) -> None:
    """The libraries of goose and sqlx take a lock that their command lines do not take; Atlas is not available."""
    address = Address.from_url(database)
    session = await connect(address, timeout=10, application_name="reading")
    try:
        location = await locate_ledger(session, LedgerSource(address, find_dialect(name)), limit=PATIENCE)
        assert await find_active_migration(session, location) is None
        (key,) = find_dialect(name).lock_keys(location.table)
        await connection.execute("select pg_advisory_lock($1)", key)
        assert await find_active_migration(session, location) is not None
    finally:
        await session.close()


@pytest.mark.parametrize(
    ("name", "table", "likely"),
    [
        ("dbmate", ECTO, "ecto"),
        ("rails", ECTO, "ecto"),
        (
            "ecto",
            "create table schema_migrations (version bigint primary key, dirty boolean not null)",
            "golang-migrate",
        ),
        ("golang-migrate", ECTO, "ecto"),
    ],
)
async def test_the_table_of_another_tool_is_refused(
    name: str, table: str, likely: str, database: str, connection: Connection
) -> None:
    """Four tools name it `schema_migrations`; the message for a wrong dialect says which tool's table it looks like."""
    await connection.execute(table)
    address = Address.from_url(database)
    session = await connect(address, timeout=10, application_name="reading")
    try:
        with pytest.raises(LedgerUnreadable, match=f"is no {name} ledger.*looks like that of {likely}"):
            await read_ledger(session, LedgerSource(address, find_dialect(name)), limit=PATIENCE)
    finally:
        await session.close()
