"""A session that holds the ledger's lock, however many others try for it at the same time."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from migrations.core.backoff import Backoff
from migrations.postgres import advisory_lock
from migrations.postgres.errors import NotReady, Unreachable
from migrations.postgres.pooler import refuse_transaction_mode
from migrations.postgres.session import connect
from migrations.runner.run import LockTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from migrations.postgres.session import Session
    from migrations.runner.run import Reporter, RunOptions

# A session that holds the lock must not outlive its process, not even in the middle of a statement.
# https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS
SETTINGS = {
    "client_connection_check_interval": "1s",  # PostgreSQL 14 and newer
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # What the role or the database may be limited to is meant for the application.
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",  # PostgreSQL 14 and newer
    "transaction_timeout": "0",  # PostgreSQL 17 and newer
    "default_transaction_deferrable": "off",  # see Book.entry
}

FIRST_PAUSE = 0.05
"""Seconds before the second attempt, at the lock or at a connection."""

LONGEST_PAUSE = 1.0
"""Seconds that the pause grows to; who waits holds no connection meanwhile."""

MAX_LOST_CONNECTIONS = 3
"""How many connections a run may lose on one migration before it gives up; the migration may be what kills them."""

Result = TypeVar("Result")


async def run_under_lock(
    run: RunOptions,
    events: Reporter,
    work: Callable[[Session], Awaitable[Result]],
    settled: Callable[[Session], Awaitable[Result | None]] | None = None,
) -> Result | LockTimeout:
    """Work in a session that holds the ledger's lock.

    Who does not get the lock hangs up before the next attempt, so that a thousand waiting pods need no connection.

    Args:
        job: Which ledger, and how long to try.
        events: Told who is waited for.
        work: What needs the lock; it reads the ledger itself, now that nobody else can change it.
        settled: Asked before each attempt: gives the result when the lock is not needed.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
    number = advisory_lock.lock_key(run.relation)
    writable = False
    while True:
        async with open_session(run, writable=writable) as connected:
            if settled is not None and (result := await settled(connected)) is not None:
                return result
            pid, read_only = await connected.identity()
            if read_only and not writable:
                writable = True  # a standby can tell that there is nothing to do, and nothing else
                continue
            if read_only:
                raise NotReady(f"{run.source.address} takes no writes: it is a standby, or read-only")
            await refuse_transaction_mode(connected, run.source.address, pid)
            async with advisory_lock.try_lock(connected, number) as held:
                if held:
                    connected.locked_by = pid
                    await connected.configure(SETTINGS | run.limits.settings)
                    return await work(connected)
            holder = await advisory_lock.find_holder(connected, number)
        waited = clock() - began
        if waited >= run.lock_wait_timeout:
            return LockTimeout(holder)
        events.waiting(holder, waited)
        await asyncio.sleep(pauses.next())


@asynccontextmanager
async def open_session(run: RunOptions, *, writable: bool = False) -> AsyncIterator[Session]:
    """Connect, trying again until `connect_timeout` while nobody answers or the server takes no session yet.

    Args:
        job: Where, and for how long to try.
        writable: Whether a server that takes no writes is one that is not ready yet.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + run.connect_timeout
    pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
    while True:
        try:
            connected = await connect(
                run.source.address,
                timeout=max(0.1, deadline - clock()),
                application_name=advisory_lock.application_name(run.applied_by),
                writable=writable,
            )
            break
        except Unreachable as error:
            pause = pauses.next()
            if clock() + pause >= deadline:
                raise type(error)(f"{error} (tried for {run.connect_timeout:g} s)") from error
            await asyncio.sleep(pause)
    try:
        yield connected
    except BaseException:
        connected.terminate()  # whoever has no time for a result has none for a goodbye
        raise
    await connected.close()
