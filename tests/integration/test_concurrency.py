"""Many `up` at once: all succeed, each migration runs once, and waiting runs block nothing."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING

import asyncpg
import pytest

from testbed import forks
from testbed.postgres import Postgres
from tests.integration.test_interruption import until
from tests.integration.test_up import LOCK, states

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.forks import Fork
    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

OURS = "from pg_stat_activity where datname = current_database() and application_name like 'ledgergate pod%'"


@pytest.fixture(scope="module")
def logging_postgres() -> Iterator[Postgres]:
    """A server with PostgreSQL's default of 100 connections, which logs every statement and connection."""
    with Postgres(log_statement="all", log_line_prefix="%p %a|", log_connections="on") as server:
        yield server


def start(ledgergate: Ledgergate, url: str, count: int) -> list[Fork]:
    """Start many `up`, each a pod of its own."""
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url}
    return [
        forks.shared().start(
            "migrate",
            "up",
            directory=ledgergate.home,
            environment={**environment, "POD_NAME": f"pod-{number}"},
            output=ledgergate.home / f"output-{number}",
        )
        for number in range(count)
    ]


async def ended(runs: Sequence[Fork]) -> list[int]:
    """Wait for the runs to end, and return their exit codes."""
    return [await asyncio.to_thread(run.wait, 240) for run in runs]


def effects(ledgergate: Ledgergate, count: int) -> None:
    """Write migrations that leave a row each."""
    ledgergate.write("20250101000000_effects", "create table effects (number int)")
    for number in range(1, count):
        ledgergate.write(f"{20250101000000 + number}_effect", f"insert into effects values ({number})")  # noqa: S608 - ours


async def numbers(url: str) -> list[int]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select number from effects order by number")
    await connection.close()
    return [row[0] for row in rows]


async def test_64_with_pending_work_and_64_with_none(ledgergate: Ledgergate, logging_postgres: Postgres) -> None:
    """All exit 0 and each migration ran once; with nothing pending none takes a lock or sends more than two queries."""
    effects(ledgergate, 10)
    url = logging_postgres.create_database()
    runs = start(ledgergate, url, 64)
    assert await ended(runs) == [0] * 64, [run.output for run in runs if run.returncode]
    assert await numbers(url) == list(range(1, 10))
    assert sum(run.output.count("applied 2025") for run in runs) == 10

    before = len(logging_postgres.log)
    runs = start(ledgergate, url, 64)
    assert await ended(runs) == [0] * 64, [run.output for run in runs if run.returncode]
    asked: dict[str, list[str]] = {}
    statement = r"^(\d+) ledgergate [^|]*\|LOG:  (?:statement|execute [^:]*): (\w+)"
    for pid, verb in re.findall(statement, logging_postgres.log[before:], re.MULTILINE):
        asked.setdefault(pid, []).append(verb)
    assert len(asked) == 64
    assert set(map(tuple, asked.values())) == {("begin", "with", "with", "rollback")}
    assert "advisory" not in logging_postgres.log[before:]


async def test_256_on_a_server_with_100_connections(ledgergate: Ledgergate, logging_postgres: Postgres) -> None:
    """All exit 0, and each of 200 migrations ran once."""
    effects(ledgergate, 200)
    url = logging_postgres.create_database()
    runs = start(ledgergate, url, 256)
    assert await ended(runs) == [0] * 256, [run.output for run in runs if run.returncode]
    assert await numbers(url) == list(range(1, 200))
    assert sum(run.output.count("applied 2025") for run in runs) == 200


async def test_waiting_runs_hold_no_connection(ledgergate: Ledgergate, connection: Connection, database: str) -> None:
    """While another session holds the lock, waiting runs connect seldom, and never stay connected."""
    ledgergate.write("one", "select 1")
    await connection.fetchval("select pg_advisory_lock($1)", LOCK)
    runs = start(ledgergate, database, 16)
    seen: dict[int, int] = {}
    looks = 100
    for _ in range(looks):
        for row in await connection.fetch(f"select pid {OURS}"):
            seen[row["pid"]] = seen.get(row["pid"], 0) + 1
        await asyncio.sleep(0.02)
    assert len(seen) > 32, "each comes back again and again"
    assert max(seen.values()) < looks / 4
    await connection.fetchval("select pg_advisory_unlock($1)", LOCK)
    assert await ended(runs) == [0] * 16


async def test_waiters_do_not_stop_an_index_that_is_built_concurrently(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """CREATE INDEX CONCURRENTLY waits for old transactions; runs that wait for the lock have none."""
    await connection.execute("create table big (id int)")
    old = await asyncpg.connect(database)
    await old.execute("begin isolation level repeatable read; select * from big")
    ledgergate.write("one", "create index concurrently big_id on big (id)", "transaction:false")
    runs = start(ledgergate, database, 1)
    await until(connection, "select exists (select from pg_stat_progress_create_index)")
    runs += start(ledgergate, database, 15)
    await until(connection, f"select count(*) > 1 {OURS}")
    await old.close()
    assert await ended(runs) == [0] * 16, [run.output for run in runs]
    assert await states(connection) == {"one": "applied"}
    assert await connection.fetchval("select indisvalid from pg_index where indexrelid = 'big_id'::regclass")
