"""The essential things on the oldest PostgreSQL that is supported, and on one in the middle."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.address import Address
from migrations.dialects import NATIVE
from migrations.reader import Source, Watcher
from tests.integration.conftest import Ledgergate
from tests.integration.test_interruption import until
from tests.integration.test_nontransactional import ENDS, progress
from tests.integration.test_up import LOCK, states
from tests.postgres import Postgres
from tests.postgres_versions import VERSIONS, VersionUnavailable, installation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from migrations.reading import Reading

pytestmark = pytest.mark.timeout(600)  # the first time it is fetched


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A server of one of the versions."""
    try:
        installation(request.param)
    except VersionUnavailable as error:
        pytest.skip(str(error))
    with Postgres(request.param) as server:
        yield server


@pytest.fixture
def old(server: Postgres, tmp_path: Path) -> Ledgergate:
    """The console script with a database on it."""
    return Ledgergate(tmp_path, server.create_database())


async def test_up_lock_and_progress(old: Ledgergate) -> None:
    """Several at once apply all kinds once, wait for the lock, and go on after a kill."""
    url = old.environment["DATABASE_URL"]
    connection = await asyncpg.connect(url)
    assert connection.get_server_version().major in map(int, VERSIONS)
    old.write("one", "create table one (id int);\ninsert into one values (1)")
    old.write("two", "insert into one values (2);\ncreate index concurrently one_id on one (id)", "transaction:false")
    old.write("20250101000002_three.py", 'async def up(connection):\n    await connection.execute("select 1")\n')
    runs = [old.start("up") for _ in range(4)]
    outputs = [await asyncio.to_thread(run.communicate) for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, outputs
    assert await states(connection) == {"one": "applied", "two": "applied", "three": "applied"}
    assert await connection.fetchval("select count(*) from one") == 2

    old.write("four", "create index concurrently one_more on one (id)", "transaction:false")
    await connection.fetchval("select pg_advisory_lock($1)", LOCK)
    assert (await asyncio.to_thread(old, "up", "--lock-timeout", "0.3")).returncode == 4
    await connection.fetchval("select pg_advisory_unlock($1)", LOCK)
    reader = await asyncpg.connect(url)
    await reader.execute("begin isolation level repeatable read; select * from one")
    run = old.start("up")
    await until(connection, "select exists (select from pg_stat_progress_create_index)")
    run.kill()
    run.communicate()
    await connection.execute(ENDS)
    await until(connection, "select not exists (select from pg_stat_progress_create_index)")
    assert await progress(connection) == (1, 0, 1)
    await reader.close()
    done = old("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'dropped "public"."one_more"' in done.stdout
    assert old("down").returncode == 2
    await connection.close()


async def test_a_migration_that_waits_is_told_and_tried_again(old: Ledgergate) -> None:
    """`lock_timeout`, the retry, and who is in the way."""
    connection = await asyncpg.connect(old.environment["DATABASE_URL"])
    await connection.execute("create table busy (id int)")
    await connection.execute("begin; select * from busy")
    old.write("one", "alter table busy add column note text")
    run = old.start("up", "--ddl-lock-timeout", "0.4")
    await asyncio.sleep(2)  # what is measured: several tries
    await connection.execute("commit")
    output, errors = await asyncio.to_thread(run.communicate)
    assert (run.returncode, errors) == (0, "")
    assert "did not get a lock in time" in output
    assert "waits for a lock on busy" in output
    await connection.close()


async def test_a_watcher_sees_what_is_applied(old: Ledgergate) -> None:
    """The ledger is read, and news arrives."""
    old.write("one", "select 1")
    seen: list[Reading] = []
    news = asyncio.Event()

    def note(reading: Reading) -> None:
        seen.append(reading)
        if reading.ledger is not None and reading.ledger.head == "20250101000000_one":
            news.set()

    source = Source(Address.from_url(old.environment["DATABASE_URL"]), NATIVE)
    task = asyncio.create_task(Watcher(source, on_change=note, now=lambda: datetime.now(UTC)).run())
    assert (await asyncio.to_thread(old, "up")).returncode == 0
    async with asyncio.timeout(15):
        await news.wait()
    task.cancel()
    assert seen[-1].fault is None
