"""Who migrates: the holder of a ledger's advisory lock, as a reader sees it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from migrations.dialects.catalogue import find_dialect
from migrations.postgres import advisory_lock
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.reader.activity import find_active_migration
from migrations.reader.reader import LedgerSource, locate_ledger

if TYPE_CHECKING:
    import asyncpg

    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session

    Connection = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def location(database: str, session: Session, connection: Connection) -> Location:
    """The location of a ledger that Knex has created."""
    await connection.execute(
        "create table knex_migrations (id serial primary key, name text, batch int, migration_time timestamptz)"
    )
    return await locate_ledger(session, LedgerSource(Address.from_url(database), find_dialect("knex")))


async def test_the_holder_of_the_lock_is_reported(database: str, session: Session, location: Location) -> None:
    """Our own lock shows holder, revision and time, whatever the dialect; None while it is free."""
    now = datetime.now(UTC)
    assert await find_active_migration(session, location) is None
    runner = await connect(
        Address.from_url(database), timeout=10, application_name=advisory_lock.application_name("pod-1", "b")
    )
    async with advisory_lock.try_lock(runner, advisory_lock.lock_key('"public"."knex_migrations"')) as held:
        assert held
        run = await find_active_migration(session, location)
        assert run is not None
        assert (run.holder, run.revision) == ("pod-1", "b")
        assert run.since is not None
        assert abs((run.since - now).total_seconds()) < 10
    assert await find_active_migration(session, location) is None
    await runner.close()


@pytest.mark.parametrize(("application", "shown"), [("psql", "psql"), ("ledgergate pod-1", None)])
async def test_a_holder_without_a_time(
    database: str, session: Session, location: Location, application: str, shown: str | None
) -> None:
    """A person who holds the lock is shown; a command of ledgergate that has no companion yet does not run yet."""
    holder = await connect(Address.from_url(database), timeout=10, application_name=application)
    await holder.fetch_value("select pg_advisory_lock($1)", advisory_lock.lock_key(location.table.relation))
    run = await find_active_migration(session, location)
    assert (run and run.holder) == shown
    await holder.close()


async def test_a_holder_always_shows_since_when(database: str, session: Session, location: Location) -> None:
    """A reader sees both the lock and its companion, which shows the time, or neither."""
    runner = await connect(Address.from_url(database), timeout=10, application_name="ledgergate pod-1")

    async def take_and_release() -> None:
        for _ in range(1000):
            async with advisory_lock.try_lock(runner, advisory_lock.lock_key(location.table.relation)) as held:
                assert held

    runs = asyncio.create_task(take_and_release())
    seen = 0
    while not runs.done():
        run = await find_active_migration(session, location)
        seen += run is not None
        assert run is None or run.since is not None
    await runs
    assert seen
    await runner.close()
