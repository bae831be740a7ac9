"""Worker processes that the kernel kills for lack of memory: only a database that may be the cause has to wait."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from migrations.postgres.address import Address
from migrations.reader import wire
from tests.object_feeds import until
from webhook.ledgers.reader_pool import ReaderPool
from webhook.ledgers.reader_process import WorkerEnd

KEY = ("shop", "pg")


def request(url: str) -> wire.Visit:
    """Return a visit that lasts."""
    return wire.Visit(0, KEY[0], Address.from_url(url), (wire.LedgerName("ledgergate"),), "test", follow=True)


async def killed(pool: ReaderPool, url: str, read: Callable[[list[wire.Answer]], bool]) -> WorkerEnd:
    """Kill the worker of a visit, once the visit is as far as `read` says; return how the worker ended."""
    answers: list[wire.Answer] = []
    async with pool.visit(KEY, request(url), answers.append) as job:
        await until(lambda: read(answers))
        os.kill(job.process.pid, signal.SIGKILL)
        end = await asyncio.wait_for(job.ended, 10)
    assert end is not None
    return end


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """Serve a database that never answers; yield its URL and the connections to it."""
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    async with server:
        yield f"postgresql://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}/x", connections
        for each in connections:
            each.close()


async def test_a_database_that_is_read_is_never_blamed(database: str) -> None:
    """A kill from outside proves nothing against a database that was read before it, however often it happens."""
    async with ReaderPool() as pool:
        for _ in range(5):
            end = await killed(pool, database, lambda found: any(isinstance(each, wire.Reading) for each in found))
            assert end.from_outside
            assert pool.penalty(KEY) == 0.0


async def test_a_kill_counts_where_it_happens_again_alone() -> None:
    """A database that is read alone may be the cause: after the second kill it has to wait."""
    async with silent_server() as (url, connections), ReaderPool() as pool:
        penalties = []
        for number in range(3):
            end = await killed(pool, url, lambda _, number=number: len(connections) > number)  # type: ignore[misc]
            assert end.from_outside
            assert not pool.may_follow(KEY)
            penalties.append(pool.penalty(KEY) > 0)
        # With other newcomers, then alone, then alone once more.
        assert penalties == [False, False, True]
