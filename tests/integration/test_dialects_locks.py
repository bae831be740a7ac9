"""Which run is active, recognized by the locks that the real tools hold while a migration of theirs waits."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from migrations.core.ledger import State
from migrations.core.revision import canonical
from migrations.dialects.catalogue import find_dialect
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.reader.activity import find_active_migration, read_row_lock
from migrations.reader.reader import LedgerSource, locate_ledger, read_ledger
from testbed.tools.projects import PROJECTS
from testbed.tools.reading import PATIENCE
from testbed.tools.start import start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg

    from migrations.postgres.session import Session
    from testbed.tools.driver import Answer, Tool

    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.timeout(1500)  # the first test installs the tools, and may have to build them

MIGRATIONS = (
    ("20250101000001_first", "create table first ()", ""),
    ("20250101000002_second", "select from apart.gate", ""),
)
WAITS = "select pid from pg_locks where not granted and relation = 'apart.gate'::regclass"


@asynccontextmanager
async def busy(tool: Tool, connection: Connection) -> AsyncIterator[asyncio.Task[Answer]]:
    """Make the tool wait in its second migration for a lock of the test, and yield the task that runs the tool."""
    await connection.execute("create schema apart create table gate ()")  # Flyway wants its own empty at first
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("lock table apart.gate")
    task = asyncio.create_task(asyncio.to_thread(tool, "all"))
    try:
        async with asyncio.timeout(60):
            while await connection.fetchval(WAITS) is None:
                assert not task.done(), await task
                await asyncio.sleep(0.02)
        yield task
    finally:
        await transaction.rollback()
        await asyncio.wait([task])


@asynccontextmanager
async def session(database: str) -> AsyncIterator[tuple[Session, Address]]:
    """Open a session as the watcher does."""
    address = Address.from_url(database)
    opened = await connect(address, timeout=10, application_name="reading")
    try:
        yield opened, address
    finally:
        await opened.close()


@pytest.mark.parametrize("name", ["flyway", "golang-migrate", "rails"])
async def test_a_tool_that_holds_its_lock_is_running(
    name: str, tmp_path: Path, database: str, connection: Connection
) -> None:
    """Its key is taken while it runs and free afterwards; only golang-migrate's ledger also shows what is running."""
    (tmp_path / "migrations").mkdir()
    first, second = (canonical(file) for file in PROJECTS[name](tmp_path / "migrations", MIGRATIONS))
    with start(name, tmp_path, database) as tool:
        async with session(database) as (opened, address):
            source = LedgerSource(address, find_dialect(name))
            async with busy(tool, connection) as task:
                location = await locate_ledger(opened, source, limit=PATIENCE)
                assert await find_active_migration(opened, location) is not None
                ledger = await read_ledger(opened, source, limit=PATIENCE)
                assert ledger.contains(first)
                assert not ledger.contains(second)
                assert (ledger.dirty and ledger.dirty.state) == (State.RUNNING if name == "golang-migrate" else None)
            assert (await task).error is None
            assert await find_active_migration(opened, location) is None
            ledger = await read_ledger(opened, source, limit=PATIENCE)
            assert ledger.contains(second)
            assert ledger.dirty is None


async def test_golang_migrate_that_died_has_failed(tmp_path: Path, database: str, connection: Connection) -> None:
    """Its ledger looks the same as while it ran, but its lock was released with its session."""
    (tmp_path / "migrations").mkdir()
    PROJECTS["golang-migrate"](tmp_path / "migrations", MIGRATIONS)
    with start("golang-migrate", tmp_path, database) as tool:
        async with session(database) as (opened, address):
            async with busy(tool, connection) as task:
                await connection.execute("select pg_terminate_backend($1)", await connection.fetchval(WAITS))
            assert (await task).error is not None
            ledger = await read_ledger(opened, LedgerSource(address, find_dialect("golang-migrate")), limit=PATIENCE)
            assert ledger.dirty is not None
            assert (ledger.dirty.revision, ledger.dirty.state) == ("20250101000002", State.FAILED)


async def test_the_lock_of_liquibase_is_a_row(tmp_path: Path, database: str, connection: Connection) -> None:
    """It has a holder and a time, and outlives a killed process; freeing it does what Liquibase itself does."""
    (tmp_path / "migrations").mkdir()
    PROJECTS["liquibase"](tmp_path / "migrations", MIGRATIONS)
    with start("liquibase", tmp_path, database) as tool:
        async with session(database) as (opened, address):
            source = LedgerSource(address, find_dialect("liquibase"))
            async with busy(tool, connection):
                location = await locate_ledger(opened, source, limit=PATIENCE)
                lock = await read_row_lock(opened, location)
                assert lock is not None
                assert lock.holder
                assert lock.since is not None
                assert abs(datetime.now(UTC) - lock.since) < timedelta(minutes=5)
            assert await read_row_lock(opened, location) is None
            await connection.execute("update databasechangeloglock set locked = true, lockedby = 'a pod that is gone'")
            lock = await read_row_lock(opened, location)
            assert lock is not None
            assert lock.holder == "a pod that is gone"
            await connection.execute(location.dialect.unlock_statement(location.table) or "")
            assert await read_row_lock(opened, location) is None
            assert tool("all").error is None
