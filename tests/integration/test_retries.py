"""DDL that waits for a lock: it gives up in time, reports the blocking session, and is retried."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.integration.test_interruption import until
from tests.integration.test_up import exists, states

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

WAITS = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"

WAITS_LONG = """select exists (
    select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
        and clock_timestamp() - query_start > interval '1.2 s'
)"""
"""Longer than a watcher would: its limit is a second."""


@pytest.fixture
async def reader(database: str, connection: Connection) -> AsyncIterator[Connection]:
    """A connection in a transaction that has read `busy`."""
    await connection.execute("create table busy (id int); insert into busy values (1)")
    reader = await asyncpg.connect(database, server_settings={"application_name": "report"})
    await reader.execute("begin; select * from busy")
    yield reader
    await reader.close()


async def slowest_reads(connection: Connection, over: asyncio.Event) -> float:
    """Read `busy` again and again, and return the longest time that a read took, in seconds."""
    slowest = 0.0
    while not over.is_set():
        began = time.monotonic()
        await connection.fetch("select * from busy")
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.01)
    return slowest


def several(run: subprocess.Popen[str], words: str) -> str:
    """Read a run's output until it has printed these words three times, and return all that was read."""
    assert run.stdout is not None
    said = ""
    while said.count(words) < 3:
        line = run.stdout.readline()
        assert line, said
        said += line
    return said


@pytest.mark.parametrize("options", ["", "transaction:false"])
async def test_a_long_reader_does_not_stop_the_others(
    ledgergate: Ledgergate, connection: Connection, reader: Connection, options: str
) -> None:
    """While a migration waits for ACCESS EXCLUSIVE, no other reader waits longer than the limit; then it succeeds."""
    ledgergate.write("one", "create table one (id int);\nalter table busy add column note text;", options)
    run = ledgergate.start("up", "--ddl-lock-timeout", "0.4")
    over = asyncio.Event()
    others = asyncio.create_task(slowest_reads(connection, over))
    said = await asyncio.to_thread(several, run, "did not get a lock in time and is rolled back; next attempt in ")
    await reader.execute("commit")
    output, errors = await asyncio.to_thread(run.communicate)
    over.set()
    assert (run.returncode, errors) == (0, "")
    assert 0.2 < await others < 0.4 + 2.0, "the limit, and what a busy machine adds"
    output = said + output
    assert f"waits for a lock on busy (AccessExclusiveLock), held by pid {reader.get_server_pid()}, report" in output
    assert await states(connection) == {"one": "applied"}
    assert await connection.fetchval("select count(*) from pg_attribute where attname = 'note'") == 1


async def test_the_budget_ends(ledgergate: Ledgergate, connection: Connection, reader: Connection) -> None:
    """A reader that never goes: exit 1 after --ddl-retry-timeout with the number of tries, and nothing is left."""
    ledgergate.write("one", "create table one (id int);\nalter table busy add column note text;")
    done = ledgergate("up", "--ddl-lock-timeout", "0.1", "--ddl-retry-timeout", "1")
    assert done.returncode == 1
    assert "20250101000000_one.sql: canceling statement due to lock timeout (tried " in done.stderr
    assert not await exists(connection, "one")
    assert await states(connection) == {}
    await reader.execute("commit")


async def test_a_file_has_limits_of_its_own(ledgergate: Ledgergate, connection: Connection, reader: Connection) -> None:
    """`lock-timeout` and `statement-timeout` of the up line count for that migration alone; the latter is no retry."""
    ledgergate.write("one", "alter table busy add column note text", "lock-timeout:100ms")
    # Without the limit of the file this would wait forever: 0 is none.
    assert ledgergate("up", "--ddl-lock-timeout", "0", "--ddl-retry-timeout", "0").returncode == 1
    await reader.execute("commit")
    assert ledgergate("up").returncode == 0
    ledgergate.write("two", "select pg_sleep(0.3)")
    for name, options in (("three", "statement-timeout:100ms"), ("four", "statement-timeout:100ms transaction:false")):
        path = ledgergate.write(name, "select pg_sleep(30)", options)
        done = ledgergate("up")
        assert (done.returncode, "statement timeout" in done.stderr) == (1, True)
        path.write_text("-- migrate:up\nselect 1")
        await connection.execute("delete from ledgergate_migrations where state = 'failed'")
    assert ledgergate("up").returncode == 0


async def test_a_statement_timeout_of_the_database_does_not_stop_a_migration(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """A run turns off a `statement_timeout` that is meant for the application."""
    name = await connection.fetchval("select current_database()")
    await connection.execute(f'alter database "{name}" set statement_timeout = 50')
    ledgergate.write("one", "select pg_sleep(0.3)")
    done = ledgergate("up")
    assert done.returncode == 0, done.stderr


async def test_python_is_called_again(ledgergate: Ledgergate, connection: Connection, reader: Connection) -> None:
    """A Python migration that gets no lock is rolled back and called again."""
    ledgergate.write(
        "20250101000000_one.py",
        'async def up(connection):\n    await connection.execute("alter table busy add column note text")\n',
    )
    run = ledgergate.start("up", "--ddl-lock-timeout", "0.1")
    await until(connection, WAITS)
    await until(connection, f"select not ({WAITS})")
    await reader.execute("commit")
    output, errors = await asyncio.to_thread(run.communicate)
    assert (run.returncode, errors) == (0, "")
    assert "next attempt in" in output


async def test_a_migration_that_is_the_victim_of_a_deadlock_is_tried_again(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """A migration that a deadlock with the application has ended is tried again."""
    await connection.execute("create table a (id int); create table b (id int)")
    await connection.execute("alter system set deadlock_timeout = '100ms'")
    await connection.execute("select pg_reload_conf()")
    application = await asyncpg.connect(database, server_settings={"deadlock_timeout": "60s"})
    await application.execute("begin; lock table b")
    ledgergate.write("one", "lock table a; lock table b; create table one (id int)")
    run = ledgergate.start("up")
    await until(connection, WAITS)
    await application.execute("lock table a; commit")
    output, errors = await asyncio.to_thread(run.communicate)
    await application.close()
    await connection.execute("alter system reset deadlock_timeout")
    await connection.execute("select pg_reload_conf()")
    assert (run.returncode, errors) == (0, "")
    assert "ran into a deadlock" in output
    assert await states(connection) == {"one": "applied"}


async def test_a_locked_ledger_is_waited_for(ledgergate: Ledgergate, connection: Connection, database: str) -> None:
    """`up` waits longer for a locked ledger than a watcher does, and then applies what is pending."""
    ledgergate.write("one", "create table one (id int)")
    assert ledgergate("up").returncode == 0
    ledgergate.write("two", "create table two (id int)")
    locker = await asyncpg.connect(database)
    await locker.execute("begin; lock table ledgergate_migrations in access exclusive mode")
    process = ledgergate.start("up")
    try:
        await until(connection, WAITS_LONG)
    finally:
        await locker.close()
        _, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    assert await states(connection) == {"one": "applied", "two": "applied"}
