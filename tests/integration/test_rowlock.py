"""Likely owners of a row lock: real sessions that behave as an owner would, or as no owner would."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.dialects.catalogue import find_dialect
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.reader.activity import read_row_lock
from migrations.reader.reader import LedgerSource, locate_ledger
from migrations.tools.exec_mark import MarkTable
from migrations.tools.lock_table import find_owners, free_row_lock
from tests.integration.test_exec import KNEX
from tests.integration.test_foreign_views import KNEX_LOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session
    from migrations.tools.lock_table import LockOwner

    Connection = asyncpg.Connection[asyncpg.Record]

LIQUIBASE = """
create table databasechangelog (
    id varchar(255) not null, author varchar(255) not null, filename varchar(255) not null,
    dateexecuted timestamp not null, orderexecuted int not null, exectype varchar(10) not null, md5sum varchar(35),
    description varchar(255), comments varchar(255), tag varchar(255), liquibase varchar(20), contexts varchar(255),
    labels varchar(255), deployment_id varchar(10)
);
create table databasechangeloglock (
    id int not null primary key, locked boolean not null, lockgranted timestamp, lockedby varchar(255)
);
insert into databasechangeloglock values (1, true, '2025-01-26 12:00:00', 'pod-1 (10.0.0.1)')
"""
YOYO = """
create table _yoyo_migration (
    migration_hash varchar(64) primary key, migration_id varchar(255), applied_at_utc timestamp
);
create table yoyo_lock (locked int default 1 primary key, ctime timestamp, pid int not null);
insert into yoyo_lock (ctime, pid) values ('2025-01-26 12:00:00', 17)
"""


@asynccontextmanager
async def opened(url: str, dialect: str = "knex") -> AsyncIterator[tuple[Session, Location]]:
    """A session of `ledgergate`, and the location of the ledger."""
    address = Address.from_url(url)
    session = await connect(address, timeout=10, application_name="ledgergate pod-1")
    await session.configure({"lock_timeout": "200ms"})
    try:
        yield session, await locate_ledger(session, LedgerSource(address, find_dialect(dialect)))
    finally:
        await session.close()


@pytest.fixture
async def knex(database: str) -> str:
    """A Knex ledger whose lock is taken, and an application's table."""
    setup = await asyncpg.connect(database)
    await setup.execute(f"{KNEX}; {KNEX_LOCK}; create table orders (id int)")
    await setup.execute("insert into knex_migrations_lock (is_locked) values (1)")
    await setup.close()
    return database


async def owners_of(url: str, *statements: str, name: str = "", dialect: str = "knex") -> Sequence[LockOwner]:
    """Find the likely owners of the lock while another session has run these statements."""
    other = await asyncpg.connect(url, server_settings={"application_name": name})
    for statement in statements:
        await other.execute(statement)
    try:
        async with opened(url, dialect) as (session, location):
            return await find_owners(session, location)
    finally:
        await other.close()


@pytest.mark.parametrize(
    ("name", "statements", "reason"),
    [
        ("", ("insert into knex_migrations (name) values ('x')",), "has used the ledger, last by: insert into"),
        ("", ('update "knex_migrations_lock" set is_locked = 1',), "has used the ledger"),
        ("", ("alter table orders add column x int",), "has changed the schema, last by: alter table orders"),
        ("", ("begin", "alter table orders add column x int", "select 1"), "has locked orders (AccessExclusiveLock)"),
        ("", ("begin", "insert into knex_migrations (name) values ('x')", "select 1"), "has locked knex_migrations"),
        ("Knex", ("select 1",), "is called Knex"),
    ],
)
async def test_a_likely_owner_is_named(knex: str, name: str, statements: tuple[str, ...], reason: str) -> None:
    """A session that migrates, migrated last, or has the tool's name is a likely owner."""
    (owner,) = await owners_of(knex, *statements, name=name)
    assert reason in owner.reason


@pytest.mark.parametrize(
    ("name", "statements"),
    [
        ("shop", ("select count(*) from orders",)),
        ("shop", ("begin", "insert into orders values (1)")),
        ("ledgergate pod-2", ("select * from knex_migrations",)),
        ("pg_dump", ("begin", "lock table orders in access share mode")),
    ],
)
async def test_an_application_is_no_owner(knex: str, name: str, statements: tuple[str, ...]) -> None:
    """An application at work, a session of ledgergate that reads the ledger, and a backup are no owners."""
    assert await owners_of(knex, *statements, name=name) == ()


@pytest.fixture
async def roles(knex: str) -> AsyncIterator[tuple[str, str]]:
    """URLs of two roles, of which neither may see the other's statements; the first may write the lock."""
    database = knex.rpartition("/")[2]
    names = f"{database}_a", f"{database}_b"
    setup = await asyncpg.connect(knex)
    for name in names:
        await setup.execute(f"create role {name} login password 'x'")
    await setup.execute(f"grant all on knex_migrations, knex_migrations_lock to {names[0]}")
    place = knex.rpartition("@")[2]
    yield f"postgresql://{names[0]}:x@{place}", f"postgresql://{names[1]}:x@{place}"
    await setup.execute(f"drop owned by {names[0]}, {names[1]}")
    await setup.execute(f"drop role {names[0]}, {names[1]}")
    await setup.close()


async def test_a_session_that_we_may_not_look_into(knex: str, roles: tuple[str, str]) -> None:
    """A session whose statements are hidden is a likely owner if its role may write the lock, else not."""
    ours, theirs = roles
    name = theirs.partition("//")[2].partition(":")[0]
    setup, other = await asyncpg.connect(knex), await asyncpg.connect(theirs)
    try:
        async with opened(ours) as (session, location):
            await setup.execute(f"grant update on knex_migrations_lock to {name}")
            owners = await find_owners(session, location)
            reason = f"is one of role {name}, whose statements we may not see"
            assert reason in [owner.reason for owner in owners]
            await setup.execute(f"revoke update on knex_migrations_lock from {name}")
            owners = await find_owners(session, location)
            assert reason not in [owner.reason for owner in owners]
    finally:
        await other.close()
        await setup.close()


@pytest.mark.parametrize(
    ("dialect", "setup", "holder"), [("liquibase", LIQUIBASE, "pod-1 (10.0.0.1)"), ("yoyo", YOYO, "17")]
)
async def test_the_other_tools_that_lock_by_a_row(database: str, dialect: str, setup: str, holder: str) -> None:
    """Holder and time are read from the row, and the statement for it frees it."""
    other = await asyncpg.connect(database)
    await other.execute(setup)
    await other.close()
    async with opened(database, dialect) as (session, location):
        taken = await read_row_lock(session, location)
        assert taken is not None
        assert holder in str(taken.holder)
        assert taken.since is not None
        await session.execute(location.dialect.unlock_statement(location.table) or "")
        assert await read_row_lock(session, location) is None


@pytest.mark.parametrize("again", [True, False])
async def test_a_row_that_was_taken_again_is_not_freed(knex: str, *, again: bool) -> None:
    """The row's version was read before the table was locked; an owner may have taken the row in between."""
    other = await asyncpg.connect(knex)
    try:
        async with opened(knex) as (session, location):
            marks = MarkTable(session, location)
            await marks.begin("pod-1")
            version = await marks.lock_row_version()
            assert version is not None
            if again:
                await other.execute("update knex_migrations_lock set is_locked = 0")
                await other.execute("update knex_migrations_lock set is_locked = 1")
            assert await free_row_lock(session, location, marks, version) is not again
            assert await other.fetchval("select is_locked from knex_migrations_lock") == int(again)
            assert await other.fetchval("select count(*) from ledgergate_exec") == int(again)
    finally:
        await other.close()
