"""`--clear-stale-lock` never takes a lock row from a live owner, and frees what a killed run of `exec` has left.

The owners are real sessions that take the row with the statement of the tool; `TOOL` is such a program.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.tools.exec_mark import DEATH_PERIOD
from tests.integration.test_interruption import until
from tests.integration.test_pooler import home, pgbouncer
from tests.integration.test_wait import line
from tests.stale_locks import FREED, KNEX_ROW, LOCKS, LONG_AGO, Lock, Runs, owner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

__all__ = ["home"]  # the directory that PgBouncer's user can get at


@pytest.fixture(params=LOCKS, ids=[lock.dialect for lock in LOCKS])
async def runs(request: pytest.FixtureRequest, ledgergate: Ledgergate, connection: Connection) -> AsyncIterator[Runs]:
    """A ledger of each tool whose lock is a row, free."""
    lock: Lock = request.param
    await connection.execute(lock.setup)
    runs = Runs(ledgergate, lock)
    yield runs
    runs.close()


knex_only = pytest.mark.parametrize("runs", [KNEX_ROW], indirect=True, ids=["knex"])


@pytest.mark.parametrize(
    ("runs", "name", "last"),
    [
        *((KNEX_ROW, name, "select 1") for name in ("", "billing", "ledgergate pod-9", "knex")),
        *((lock, "billing", last) for lock in LOCKS for last in ("begin", "update acc set n = 1")),
    ],
    indirect=["runs"],
)
async def test_an_owner_outside_exec(runs: Runs, connection: Connection, database: str, name: str, last: str) -> None:
    """The lock row is kept, whatever the owner's name, and whatever its session did last."""
    await connection.execute("create table acc (n int)")
    async with owner(database, runs.lock.take, last, name=name):
        message = await runs.refuses(connection)
    assert "no run of `exec` has left a mark" in message
    assert (
        runs.lock.free.partition(" where")[0].partition(" set")[0].split()[-1] in message
    )  # the SQL to free it by hand


async def test_an_owner_without_a_session(runs: Runs, connection: Connection) -> None:
    """The lock row is kept: a tool whose pool has closed its connections looks as a dead one does."""
    await connection.execute(runs.lock.take)
    assert "likely owners: " in await runs.refuses(connection)


@knex_only
async def test_an_owner_of_which_nothing_is_known_is_named(runs: Runs, connection: Connection, database: str) -> None:
    """A session that may write the lock may have it, also if it last did something else."""
    await connection.execute("create table acc (n int)")
    async with owner(database, runs.lock.take, "update acc set n = 1", name="billing"):
        await connection.close()  # which has read the row, and would be more likely
        done = await runs.clear()
    assert done.returncode == 4
    assert "(billing) may write the lock, and was last at: update acc set n = 1" in done.stderr


@knex_only
async def test_no_session_at_all_is_not_waited_for_long(runs: Runs, connection: Connection, database: str) -> None:
    """A plain Knex that was killed: 30 s, not --lock-timeout, then exit 4 with the command to free its row."""
    await connection.execute(runs.lock.take)
    await connection.close()
    began = time.monotonic()
    done = await runs.clear(limit=600)
    assert 30 <= time.monotonic() - began < 120
    assert done.returncode == 4
    assert "likely owners: no session that can be seen" in done.stderr
    assert "If it is dead, `npx knex migrate:unlock`" in done.stderr
    async with owner(database) as again:
        assert await again.fetchval(runs.lock.taken)


@knex_only
async def test_an_owner_behind_a_pooler(runs: Runs, connection: Connection, database: str, home: Path) -> None:
    """The lock row is kept, although the owner's server session is the pooler's and serves others too."""
    with pgbouncer(home, database, "transaction", 2) as url:
        async with owner(url, runs.lock.take, "select 1"):
            await runs.refuses(connection)


@knex_only
async def test_an_owner_of_another_role(runs: Runs, connection: Connection, database: str) -> None:
    """The lock row is kept, although the server does not show what the session of another role does."""
    role = f"{database.rpartition('/')[2]}_other"
    await connection.execute(f"create role {role} login password 'x'; grant all on knex_migrations_lock to {role}")
    try:
        async with owner(f"postgresql://{role}:x@{database.rpartition('@')[2]}", runs.lock.take):
            await runs.refuses(connection)
    finally:
        await connection.execute(f"drop owned by {role}; drop role {role}")


async def test_an_owner_that_ends_is_waited_for(runs: Runs, connection: Connection, database: str) -> None:
    """Once it has freed the row the command runs; nothing was taken from it."""
    async with owner(database, runs.lock.take, name="billing") as session:
        waits = asyncio.create_task(runs.clear(limit=30))
        await until(connection, "select exists (select from pg_locks where locktype = 'advisory')")
        await session.execute(runs.lock.free)
        done = await waits
    assert (done.returncode, FREED in done.stdout) == (0, False), done.stdout + done.stderr
    assert "the command" in done.stdout


@pytest.mark.parametrize("when", ["before", "after", "meanwhile"])
async def test_an_owner_beside_a_killed_run(runs: Runs, connection: Connection, database: str, when: str) -> None:
    """A run was killed before its command took the row, after it freed the row, or while another had the row."""
    steps = ("select 1", "wait") if when != "after" else (runs.lock.take, runs.lock.free, "wait")
    run = runs.start(*steps)
    await runs.waits()
    if when == "meanwhile":
        async with owner(database, runs.lock.take, name="billing"):
            await connection.execute("create table taken as select clock_timestamp() as at")
            await until(connection, "select seen_at > at from ledgergate_exec, taken")  # the run has looked
            await runs.kill(run, connection)
            assert "was not seen to take the row" in await runs.refuses(connection)
    else:
        await runs.kill(run, connection)
        async with owner(database, runs.lock.take):
            await runs.refuses(connection)


@knex_only
async def test_an_owner_that_was_faster_than_the_command(runs: Runs, connection: Connection, database: str) -> None:
    """The command tries for the row in vain, lives on, and its run is killed: the row is not its."""
    run = runs.start("select 1", "wait", runs.lock.take, "select pg_sleep(60)")
    await runs.waits()
    async with owner(database, runs.lock.take):
        (runs.ledgergate.home / "go").touch()
        sleeps = "select exists (select from pg_stat_activity where query ~ 'pg_[s]leep' and state = 'active')"
        await until(connection, sleeps)
        await runs.kill(run, connection)
        await runs.refuses(connection)


async def test_an_owner_that_came_after_the_command(runs: Runs, connection: Connection, database: str) -> None:
    """The row was freed by hand after the run was killed, and taken again: the mark is of another version of it."""
    run = runs.start(runs.lock.take, "wait")
    await runs.waits()
    await until(connection, "select lock_version is not null from ledgergate_exec")
    await runs.kill(run, connection)
    await connection.execute(runs.lock.free)
    async with owner(database, runs.lock.take):
        assert "the row was written again since" in await runs.refuses(connection)


async def test_an_owner_that_creates_the_table(ledgergate: Ledgergate, connection: Connection, database: str) -> None:
    """On an empty database nothing can keep the row; another session that came meanwhile may have taken it."""
    runs = Runs(ledgergate, KNEX_ROW)
    run = runs.start("select 1", "wait")
    await runs.waits()
    async with owner(database, KNEX_ROW.setup, KNEX_ROW.take, name="billing"):
        await until(connection, "select clock_timestamp() > seen_at + interval '1 second' from ledgergate_exec")
        await runs.kill(run, connection)
        await runs.refuses(connection)


async def test_a_living_run_of_exec(runs: Runs, connection: Connection) -> None:
    """The advisory lock of a living run keeps another run from even reading the row."""
    runs.start(runs.lock.take, "wait")
    await runs.waits()
    assert "the lock was not free within 0.3 s" in await runs.refuses(connection)


async def test_a_run_that_has_only_lost_its_session(runs: Runs, connection: Connection) -> None:
    """Our lock is free at once, but the command may live on for its grace period: it is waited for."""
    run = runs.start(runs.lock.take, "wait")
    await runs.waits()
    await until(connection, "select lock_version is not null from ledgergate_exec")
    run.kill()
    await asyncio.to_thread(run.communicate)
    assert "whose command may live for another" in await runs.refuses(connection)
    await connection.execute(LONG_AGO)
    await runs.frees(connection)


@pytest.mark.parametrize("name", ["", "billing"])
async def test_a_killed_run_is_dead(runs: Runs, connection: Connection, name: str) -> None:
    """What its command took is freed, whether the tool's sessions have our mark in their name or one of their own."""
    run = runs.start(runs.lock.take, "wait", TOOL_NAME=name)
    await runs.waits()
    await until(connection, "select lock_version is not null from ledgergate_exec")
    await runs.kill(run, connection)
    await runs.frees(connection)


@knex_only
@pytest.mark.parametrize("name", ["", "billing"])
async def test_a_statement_that_goes_on_is_ended(runs: Runs, connection: Connection, name: str) -> None:
    """The server does not notice at once that the client is gone: its effect would come beside the next run."""
    await connection.execute("create table effects (n int)")
    slow = "insert into effects select 1 from pg_sleep(30)"
    run = runs.start(runs.lock.take, slow, TOOL_NAME=name)
    sleeps = "select exists (select from pg_stat_activity where query ~ 'insert into [e]ffects' and state = 'active')"
    await until(connection, sleeps)
    await until(connection, "select lock_version is not null from ledgergate_exec")
    await until(connection, "select cardinality(session_pids) = 1 from ledgergate_exec")
    await runs.kill(run, connection)
    assert await connection.fetchval(sleeps)
    await runs.frees(connection)
    assert not await connection.fetchval(sleeps)
    assert await connection.fetchval("select count(*) from effects") == 0


@knex_only
async def test_a_session_that_the_run_has_not_seen(runs: Runs, connection: Connection, database: str) -> None:
    """The command may have opened it after the run was killed: what it does would come beside the next run."""
    run = runs.start(runs.lock.take, "wait")
    await runs.waits()
    await until(connection, "select lock_version is not null from ledgergate_exec")
    await runs.kill(run, connection)
    async with owner(database, name="billing") as session:
        pid = await session.fetchval("select pg_backend_pid()")
        # As if it had been opened in the last moment in which the command may have lived.
        await connection.execute(
            "update ledgergate_exec set seen_at = backend_start - make_interval(secs => $1) "
            "from pg_stat_activity where pid = $2",
            DEATH_PERIOD,
            pid,
        )
        work = asyncio.create_task(session.execute("select pg_sleep(60)"))
        await until(
            connection, "select exists (select from pg_stat_activity where query ~ '[p]g_sleep' and state = 'active')"
        )
        message = await runs.refuses(connection)
        assert f"the end of backend {pid} (billing), which a killed run may have left" in message
        await connection.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises(asyncpg.PostgresError):
            await work
    await runs.frees(connection)


@knex_only
async def test_a_killed_run_behind_a_pooler(runs: Runs, connection: Connection, database: str, home: Path) -> None:
    """A pooler passes our mark on, also where the server's session is older than the run."""
    with pgbouncer(home, database, "transaction", 1) as url:
        async with owner(url, "select 1"):
            pass
        run = runs.start(runs.lock.take, "wait", TOOL_URL=url)
        await runs.waits()
        await until(connection, "select lock_version is not null from ledgergate_exec")
        await runs.kill(run, connection)
        await runs.frees(connection)


@knex_only
async def test_a_row_that_is_written_slowly(runs: Runs, connection: Connection) -> None:
    """The command's write may last some seconds, as where it commits on a slow standby: the row is known to be its."""
    run = runs.start(f"{runs.lock.take} and pg_sleep(2) is not null", "wait")
    await runs.waits()
    await until(connection, "select lock_version is not null from ledgergate_exec")
    await runs.kill(run, connection)
    await runs.frees(connection)


@pytest.mark.parametrize("name", ["", "billing"])
async def test_a_killed_first_run(ledgergate: Ledgergate, connection: Connection, name: str) -> None:
    """The command that creates the tables takes the row at once; no other session came meanwhile."""
    runs = Runs(ledgergate, KNEX_ROW)
    run = runs.start(f"{KNEX_ROW.setup}; {KNEX_ROW.take}", "wait", TOOL_NAME=name)
    await runs.waits()
    await until(connection, "select lock_version is not null from ledgergate_exec")
    await runs.kill(run, connection)
    await runs.frees(connection)


async def test_a_command_that_has_left_the_row(runs: Runs, connection: Connection) -> None:
    """A run that outlives its command knows that the command is dead, so the next run frees the row without a wait."""
    run = runs.start(runs.lock.take, "select pg_sleep(1.5)", "select 1/0")
    _, errors = await asyncio.to_thread(run.communicate)
    assert "division by zero" in errors
    await runs.frees(connection)


async def test_nothing_is_left_of_a_run_that_has_ended(runs: Runs, connection: Connection) -> None:
    """The mark is there while the command runs, and taken away after it; the row is not kept from the command."""
    run = runs.start(runs.lock.take, "wait", runs.lock.free)
    await runs.waits()
    assert await connection.fetchval("select run_by from ledgergate_exec") == "pod-1"
    (runs.ledgergate.home / "go").touch()
    output, errors = await asyncio.to_thread(run.communicate)
    assert run.returncode == 0, output + errors
    assert await connection.fetchval("select count(*) from ledgergate_exec") == 0


@knex_only
async def test_a_role_that_may_not_create_a_table(runs: Runs, connection: Connection, database: str) -> None:
    """A message says that no mark can be left; the command runs, and a later run never frees its row."""
    role = f"{database.rpartition('/')[2]}_poor"
    await connection.execute(f"create role {role} login password 'x'; revoke create on schema public from public")
    await connection.execute(f"grant all on knex_migrations, knex_migrations_lock to {role}")
    try:
        runs.ledgergate.environment["DATABASE_URL"] = f"postgresql://{role}:x@{database.rpartition('@')[2]}"
        done = await runs.clear()
        assert done.returncode == 0
        assert "no mark of this run can be left" in done.stdout
        assert "permission denied for schema public" in done.stdout
        run = runs.start(runs.lock.take, "wait")
        await runs.waits()
        run.kill()
        await asyncio.to_thread(run.communicate)
        await runs.refuses(connection)
    finally:
        await connection.execute(f"drop owned by {role}; drop role {role}")


@knex_only
async def test_a_role_that_may_not_lock_the_table(runs: Runs, connection: Connection, database: str) -> None:
    """A tool of another role may; the run tries once, and frees nothing that it could not watch."""
    role = f"{database.rpartition('/')[2]}_mere"
    await connection.execute(f"create role {role} login password 'x'; grant create on schema public to {role}")
    await connection.execute(f"grant select on knex_migrations, knex_migrations_lock to {role}")
    try:
        url = f"postgresql://{role}:x@{database.rpartition('@')[2]}"
        run = runs.start(runs.lock.take, "wait", DATABASE_URL=url, TOOL_URL=database)
        await runs.waits()
        await until(connection, "select clock_timestamp() > began_at + interval '2 seconds' from ledgergate_exec")
        await runs.kill(run, connection)
        await runs.refuses(connection)
    finally:
        await connection.execute(f"drop owned by {role}; drop role {role}")


@knex_only
async def test_an_outsider_is_not_kept_waiting(runs: Runs, connection: Connection, database: str) -> None:
    """While the command has not taken the row, another session gets it within a moment."""
    run = runs.start("select 1", "wait")
    await runs.waits()
    await until(connection, "select exists (select from pg_locks where mode = 'ShareRowExclusiveLock' and granted)")
    async with owner(database) as session:
        await session.execute("set lock_timeout = '20s'")
        await session.execute(runs.lock.take)
        await session.execute(runs.lock.free)
    (runs.ledgergate.home / "go").touch()
    line(run.stdout, "done: the ledger is at ")
    await asyncio.to_thread(run.communicate)
