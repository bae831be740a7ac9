"""What a run leaves when it is stopped, politely or not."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.integration.test_up import exists, states

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from tests.integration.conftest import Ledgergate
    from tests.postgres import Postgres

    Connection = asyncpg.Connection[asyncpg.Record]

SLEEPS = "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')"


async def until(connection: Connection, condition: str, deadline: float = 20) -> float:
    """Wait until the query gives true; how long that took, in seconds."""
    began = time.monotonic()
    while not await connection.fetchval(condition):
        assert time.monotonic() - began < deadline, condition
        await asyncio.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
async def sleeping(
    ledgergate: Ledgergate, connection: Connection, request: pytest.FixtureRequest
) -> AsyncIterator[subprocess.Popen[str]]:
    """A run in the middle of its second migration, whose options are the parameter."""
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", "create table two (id int);\nselect pg_sleep(60);", request.param)
    process = ledgergate.start("up")
    await until(connection, SLEEPS)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("sleeping", [""], indirect=True)
async def test_sigterm_rolls_back(sleeping: subprocess.Popen[str], connection: Connection) -> None:
    """SIGTERM in a transaction: the run ends within 2 s, and only what came before is there."""
    began = time.monotonic()
    sleeping.send_signal(signal.SIGTERM)
    _, errors = await asyncio.to_thread(sleeping.communicate)
    assert time.monotonic() - began < 2
    assert sleeping.returncode == 143, errors
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
    assert sleeping.returncode == 143
    assert await states(connection) == {"one": "applied", "two": "failed"}
    assert "interrupted" in await connection.fetchval("select error from ledgergate_migrations where state = 'failed'")


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


@pytest.mark.parametrize("sleeping", ["transaction:false"], indirect=True)
async def test_sigkill_outside_a_transaction_stays_on_record(
    sleeping: subprocess.Popen[str], ledgergate: Ledgergate, connection: Connection
) -> None:
    """After SIGKILL the row still says `running`; the next run refuses and says what that means."""
    sleeping.kill()
    await until(connection, f"select not ({SLEEPS})")
    assert await states(connection) == {"one": "applied", "two": "running"}
    done = ledgergate("up")
    assert done.returncode == 1
    assert "never ended" in done.stderr


@pytest.mark.parametrize("sleeping", ["transaction:false"], indirect=True)
async def test_another_run_waits_while_one_is_running(sleeping: subprocess.Popen[str], ledgergate: Ledgergate) -> None:
    """A `running` row under a lock that is held is no failure: who comes second waits."""
    done = ledgergate("up", "--lock-timeout", "0.5", POD_NAME="pod-2")
    assert done.returncode == 4
    assert "ledgergate pod-1" in done.stderr
    assert sleeping.poll() is None


async def test_a_server_that_dies_in_the_middle(ledgergate: Ledgergate, own_postgres: Postgres) -> None:
    """A server that crashes during a run: exit 4, and after its restart the ledger says only what happened."""
    ledgergate.environment["DATABASE_URL"] = own_postgres.url()
    ledgergate.write("one", "create table one (id int)")
    ledgergate.write("two", "create table two (id int);\nselect pg_sleep(60);")
    process = ledgergate.start("up")
    connection = await asyncpg.connect(own_postgres.url())
    await until(connection, SLEEPS)
    connection.terminate()
    own_postgres.restart("immediate")
    _, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 4, errors
    connection = await asyncpg.connect(own_postgres.url())
    assert await states(connection) == {"one": "applied"}
    assert not await exists(connection, "two")
    await connection.close()
