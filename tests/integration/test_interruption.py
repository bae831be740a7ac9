"""What a run leaves when it is stopped by SIGTERM, by SIGKILL or by the server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from testbed import waiting
from testbed.postgres_versions import since
from tests.integration.test_up import exists, states

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from testbed.postgres import Postgres
    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

SLEEP = """do $$ begin
    while not exists (select from pg_stat_activity where application_name = 'go on') loop
        perform pg_sleep(0.1), pg_stat_clear_snapshot();
    end loop;
end $$;"""
"""Sleeps until there is a connection of this name; see `go_on`."""
SLEEPS = """select exists (
    select from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and state = 'active'
        and query ~ 'pg[_]sleep|call half'
)"""

NOTICES = since(
    14, "client_connection_check_interval, without which a killed client goes unnoticed until its statement ends"
)

UNNOTICED = pytest.mark.skipif(os.environ.get("LEDGERGATE_POSTGRES") != "13", reason="what only PostgreSQL 13 does")


async def until(connection: Connection, condition: str, deadline: float = 120) -> float:
    """Wait until the query returns true; return how long that took, in seconds."""
    began = time.monotonic()
    while not await connection.fetchval(condition):
        assert time.monotonic() - began < deadline, condition
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def go_on(connection: Connection) -> None:
    """Let the sleeping statement finish at once, for as long as this connection is open."""
    await connection.execute("set application_name = 'go on'")


def timers(port: int) -> list[tuple[str, int]]:
    """Return the timers of both ends of an open connection: the kind, 02 for keepalive, and when, in hundredths.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_net.5.html, /proc/net/tcp
    """
    ends = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [end[5].split(":") for end in ends if end[3] == "01" and f":{port:04X}" in {end[1][-5:], end[2][-5:]}]
    return [(kind, int(when, 16)) for kind, when in ours]


@pytest.fixture
async def sleeping(
    ledgergate: Ledgergate, connection: Connection, request: pytest.FixtureRequest
) -> AsyncIterator[subprocess.Popen[str]]:
    """A run in the middle of its second migration, whose options are the parameter."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", f"create table two (id int);\n{SLEEP}", request.param)
    process = ledgergate.start("up")
    await until(connection, SLEEPS)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("sleeping", [""], indirect=True)
async def test_sigterm_rolls_back(sleeping: subprocess.Popen[str], connection: Connection) -> None:
    """SIGTERM in a transaction: the run ends at once, and only the earlier migrations are applied."""
    began = time.monotonic()
    sleeping.send_signal(signal.SIGTERM)
    _, errors = await asyncio.to_thread(sleeping.communicate)
    assert time.monotonic() - began < 10
    assert sleeping.returncode == 1, errors
    assert "SIGTERM" in errors
    assert await states(connection) == {"one": "applied"}
    assert not await exists(connection, "two")
    assert not await connection.fetchval(SLEEPS)


@pytest.mark.parametrize("sleeping", ["transaction:false"], indirect=True)
async def test_sigterm_outside_a_transaction_is_recorded(
    sleeping: subprocess.Popen[str], connection: Connection
) -> None:
    """SIGTERM outside a transaction: the row says `failed` and why."""
    sleeping.send_signal(signal.SIGTERM)
    await asyncio.to_thread(sleeping.communicate)
    assert sleeping.returncode == 1
    assert await states(connection) == {"one": "applied", "two": "failed"}
    assert "interrupted" in await connection.fetchval("select error from ledgergate_migrations where state = 'failed'")


@NOTICES
@pytest.mark.parametrize("sleeping", [""], indirect=True)
async def test_sigkill_frees_the_lock_within_seconds(
    sleeping: subprocess.Popen[str], ledgergate: Ledgergate, connection: Connection
) -> None:
    """After SIGKILL the server notices by itself; nothing of the statement is left and another run succeeds."""
    sleeping.kill()
    assert await until(connection, f"select not ({SLEEPS})") < 5
    (ledgergate.directory / "20250101000001_two.sql").write_text("-- migrate:up\ncreate table two (id int)")
    done = ledgergate("up")
    assert done.returncode == 0, done.stderr
    assert await states(connection) == {"one": "applied", "two": "applied"}


@UNNOTICED
@pytest.mark.parametrize("sleeping", [""], indirect=True)
async def test_sigkill_on_postgresql_13_lets_the_statement_end_and_commit(
    sleeping: subprocess.Popen[str], ledgergate: Ledgergate, connection: Connection
) -> None:
    """The server does not notice the client's end: the transaction commits, and the next run has nothing to do."""
    sleeping.kill()
    sleeping.communicate()
    await asyncio.sleep(5)  # within which PostgreSQL 14 and newer roll it back
    assert await connection.fetchval(SLEEPS)
    await go_on(connection)
    await until(connection, f"select not ({SLEEPS})")
    assert await states(connection) == {"one": "applied", "two": "applied"}
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")


@NOTICES
@pytest.mark.parametrize("sleeping", ["transaction:false"], indirect=True)
async def test_after_sigkill_outside_a_transaction_it_goes_on(
    sleeping: subprocess.Popen[str], ledgergate: Ledgergate, connection: Connection
) -> None:
    """The row still says `running` and how far the run came; the next run does the rest and nothing twice."""
    sleeping.kill()
    await until(connection, f"select not ({SLEEPS})")
    assert await states(connection) == {"one": "applied", "two": "running"}
    assert await connection.fetchval("select statements_done from ledgergate_migrations where state = 'running'") == 1
    await go_on(connection)
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert "continues after 1 completed statements" in done.stdout
    assert await states(connection) == {"one": "applied", "two": "applied"}


@NOTICES
async def test_after_sigkill_in_a_procedure_that_commits_a_person_must_look(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """A procedure may have done half of its work: the next run refuses, names the statement and says what to do."""
    await connection.execute("create procedure half() language plpgsql as 'begin perform pg_sleep(60); end'")
    ledgergate.write("one", "create table one (id int);\n\ncall half();", "transaction:false")
    process = ledgergate.start("up")
    await until(connection, SLEEPS)
    process.kill()
    process.communicate()
    await until(connection, f"select not ({SLEEPS})")
    done = ledgergate("up")
    assert done.returncode == 1
    assert "20250101000000_one began and never ended" in done.stderr
    assert "statement 2 of 2 (migrations/20250101000000_one.sql:4) began, and whether" in done.stderr
    assert "resolve 20250101000000_one --applied" in done.stderr
    assert await states(connection) == {"one": "running"}


@pytest.mark.parametrize("sleeping", ["transaction:false"], indirect=True)
async def test_another_run_waits_while_one_is_running(sleeping: subprocess.Popen[str], ledgergate: Ledgergate) -> None:
    """A `running` row under a held lock is not a failure: the second run waits."""
    done = ledgergate("up", "--lock-timeout", "0.5", POD_NAME="pod-2")
    assert done.returncode == 4
    assert "held by pod-1 (backend " in done.stderr
    assert " s, running 20250101000001_two" in done.stderr
    assert sleeping.poll() is None


@pytest.mark.parametrize("options", ["", "transaction:false"])
async def test_a_server_that_is_restarted_in_the_middle(
    ledgergate: Ledgergate, own_postgres: Postgres, options: str
) -> None:
    """After a crash of the server the run connects again, sees what the ledger says and does the rest: exit 0."""
    ledgergate.environment["DATABASE_URL"] = own_postgres.url()
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", f"create table two (id int);\n{SLEEP}", options)
    process = ledgergate.start("up")
    connection = await asyncpg.connect(own_postgres.url())
    await until(connection, SLEEPS)
    connection.terminate()
    own_postgres.stop("immediate")
    own_postgres.start()
    connection = await asyncpg.connect(own_postgres.url(), server_settings={"application_name": "go on"})
    output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    assert "connecting again" in output
    assert await states(connection) == {"one": "applied", "two": "applied"}
    assert await connection.fetchval("select count(distinct batch) from ledgergate_migrations") == 1
    await connection.close()


async def test_a_server_that_does_not_come_back(ledgergate: Ledgergate, own_postgres: Postgres) -> None:
    """Exit 4 after --connect-timeout, and the ledger says only what happened."""
    ledgergate.environment["DATABASE_URL"] = own_postgres.url()
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", f"create table two (id int);\n{SLEEP}")
    process = ledgergate.start("up", "--connect-timeout", "1")
    connection = await asyncpg.connect(own_postgres.url())
    await until(connection, SLEEPS)
    connection.terminate()
    own_postgres.stop("immediate")
    _, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 4, errors
    own_postgres.start()
    connection = await asyncpg.connect(own_postgres.url())
    assert await states(connection) == {"one": "applied"}
    assert not await exists(connection, "two")
    await connection.close()


async def test_what_sigterm_left_is_reported(ledgergate: Ledgergate, connection: Connection) -> None:
    """The message says how many migrations are applied and what became of the one that ran."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", SLEEP)
    ledgergate.write("three", "select 1")
    process = ledgergate.start("up")
    await until(connection, SLEEPS)
    process.send_signal(signal.SIGINT)
    output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "interrupted: 1 of 3 applied by this run; 20250101000001_two is rolled back" in output
    assert "SIGINT" in errors


async def test_a_run_keeps_asking_whether_the_server_is_there(ledgergate: Ledgergate, connection: Connection) -> None:
    """While a statement runs both ends probe the silent connection, so that a peer that vanished is noticed."""
    ledgergate.write("one", SLEEP)
    process = ledgergate.start("up")
    await until(connection, SLEEPS)
    row = await connection.fetchrow(
        "select client_port from pg_stat_activity where application_name like 'ledgergate pod-1 %'"
    )
    assert row is not None
    kinds = await asyncio.to_thread(
        waiting.until,
        "keepalive timers",
        lambda: [kind for kind, _ in timers(row[0])] == ["02", "02"] and timers(row[0]),
    )
    assert all(hundredths <= 1100 for _, hundredths in kinds or ()), "within 10 s"
    await go_on(connection)
    await asyncio.to_thread(process.communicate)
    assert process.returncode == 0


async def test_a_connection_that_the_server_ends_records_nothing_false(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """A backend that is terminated again and again: the run gives up with exit 4, and the ledger says what happened."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", f"create table two (id int);\n{SLEEP}")
    process = ledgergate.start("up")
    for _ in range(3):
        await until(connection, SLEEPS)
        # Wait for these pids: the next attempt may sleep already, so the test might never see that none does.
        ended = await connection.fetchval(
            """select array_agg(pid) from pg_stat_activity
            where application_name like 'ledgergate pod-1 %' and pg_terminate_backend(pid)"""
        )
        pids = ", ".join(str(pid) for pid in ended)
        gone = f"select not exists (select from pg_stat_activity where pid in ({pids}))"  # noqa: S608 - numbers
        await until(connection, gone)
    output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 4, errors
    assert output.count("connecting again") == 2
    assert await states(connection) == {"one": "applied"}
    assert not await exists(connection, "two")
