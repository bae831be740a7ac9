"""A watcher during a random walk of everything that can happen to its server."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.dialects.native import NATIVE
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from migrations.reader.watcher import LedgerWatcher, PollIntervals
from migrations.sql.statements import bind, load

if TYPE_CHECKING:
    from migrations.core.snapshot import LedgerSnapshot
    from testbed.postgres import Postgres

SQL = {name: bind(text, table=NATIVE.relation()) for name, text in load("ledgergate").items()}
KILL_WATCHER = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ledgergate watcher'"
STEPS = 60


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_reading_always_becomes_current_again(own_postgres: Postgres, seed: int) -> None:
    """After any sequence of commits, killed sessions, stops and crashes the reading becomes current again."""
    chance = random.Random(seed)  # noqa: S311 - a walk, not a secret
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute(SQL["create"])
    reported: list[LedgerSnapshot] = []
    intervals = PollIntervals(urgent=0.05, idle=0.2, slowest=0.5, retry=0.02, retry_slowest=0.2)
    watcher = LedgerWatcher(
        LedgerSource(Address.from_url(url), NATIVE),
        on_change=reported.append,
        jitter=chance.random,
        intervals=intervals,
    )
    task = asyncio.create_task(watcher.run())
    names: list[str] = []
    try:
        for step in range(STEPS):
            watcher.urgent = chance.random() < 0.5
            asking = [asyncio.create_task(watcher.refresh(0.2)) for _ in range(chance.randrange(4))]
            await asyncio.sleep(chance.random() * 0.01)
            match chance.randrange(8):
                case 0:
                    connection.terminate()
                    await asyncio.to_thread(own_postgres.stop, chance.choice(("fast", "immediate")))
                    await asyncio.sleep(chance.random() * 0.1)
                    await asyncio.to_thread(own_postgres.start)
                    connection = await asyncpg.connect(url)
                case 1 | 2 | 3:
                    await connection.fetch(KILL_WATCHER)
                case _:
                    names.append(f"r{step:03}")
                    await connection.fetch(SQL["baseline"], names[-1], "sum", "test", None)
            await asyncio.gather(*asking)
            if chance.random() < 0.5:
                await until_true(watcher, names, task)
        await until_true(watcher, names, task)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await connection.close()
    assert task.cancelled()
    ledgers = [snapshot.ledger for snapshot in reported if snapshot.ledger]
    assert all(set(older.applied) <= set(newer.applied) for older, newer in pairwise(ledgers))


async def until_true(watcher: LedgerWatcher, names: list[str], task: asyncio.Task[None]) -> None:
    began = time.monotonic()
    while True:
        assert not task.done(), task
        snapshot = await watcher.refresh(0.5)
        if snapshot.fault is None and snapshot.ledger is not None and list(snapshot.ledger.applied) == names:
            return
        assert time.monotonic() - began < 30, (snapshot, names)
        await asyncio.sleep(0.01)
