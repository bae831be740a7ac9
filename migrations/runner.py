"""Carries out a plan exactly once, whoever else tries at the same time."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from migrations import lock
from migrations.database import ConnectionLost, NotReady, Unreachable, connect
from migrations.job import PATIENCE, Done, LockTimeout, Progress, planned
from migrations.limits import Pauses
from migrations.plan import Plan
from migrations.pooler import refuse_transaction_mode
from migrations.source import read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from migrations.database import Session
    from migrations.job import Events, Job, Outcome
    from migrations.ledger import Ledger
    from migrations.lock import Holder
    from migrations.plan import Refusal

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
LOSSES = 3
"""How many connections a run may lose on one migration before it gives up; the migration may be what kills them."""

Result = TypeVar("Result")


async def up(job: Job, events: Events) -> Outcome:
    """Apply what is pending, in order, under the lock.

    With nothing pending this is one read without a lock. A connection that is lost on the way is made again: what the
    ledger says then is what happened.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    progress = Progress()

    async def settled(connected: Session) -> Outcome | None:
        decision = await decide(job, connected)
        if isinstance(decision, Plan):
            return None if decision.steps else Done(replace(decision, steps=tuple(progress.applied)))
        return None if decision.dirty else decision  # what is dirty without the lock may be running right now

    async def apply(connected: Session) -> Outcome:
        from migrations.applying import apply  # noqa: PLC0415 - most of the package; most runs find nothing to do

        return await apply(job, events, connected, progress)

    losses, applied = 0, 0
    while True:
        try:
            return await under_lock(job, events, apply, settled)
        except ConnectionLost as error:
            losses = losses + 1 if len(progress.applied) == applied else 1
            applied = len(progress.applied)
            if losses == LOSSES:
                raise
            events.say("connection_lost", f"{error}; connecting again", applied=applied)
        except asyncio.CancelledError:
            progress.tell_interrupted(events)
            raise


async def under_lock(
    job: Job,
    events: Events,
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
    pauses = Pauses(random.random, FIRST_PAUSE, LONGEST_PAUSE)
    number = lock.key(_relation(job))
    writable = False
    while True:
        async with session(job, writable=writable) as connected:
            if settled is not None and (result := await settled(connected)) is not None:
                return result
            pid, read_only = await connected.identity()
            if read_only and not writable:
                writable = True  # a standby can tell that there is nothing to do, and nothing else
                continue
            if read_only:
                raise NotReady(f"{job.source.address} takes no writes: it is a standby, or read-only")
            await refuse_transaction_mode(connected, job.source.address, pid)
            async with lock.attempt(connected, number) as held:
                if held:
                    connected.locked_by = pid
                    await connected.configure(SETTINGS | job.limits.settings)
                    return await work(connected)
            holder = await lock.holder(connected, number)
        waited = clock() - began
        if waited >= job.lock_timeout:
            return LockTimeout(holder)
        events.waiting(holder, waited)
        await asyncio.sleep(pauses.next())


@asynccontextmanager
async def session(job: Job, *, writable: bool = False) -> AsyncIterator[Session]:
    """Connect, trying again until `connect_timeout` while nobody answers or the server takes no session yet.

    Args:
        job: Where, and for how long to try.
        writable: Whether a server that takes no writes is one that is not ready yet.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + job.connect_timeout
    pauses = Pauses(random.random, FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        try:
            connected = await connect(
                job.source.address,
                timeout=max(0.1, deadline - clock()),
                application_name=lock.application_name(job.applied_by),
                writable=writable,
            )
            break
        except Unreachable as error:
            pause = pauses.next()
            if clock() + pause >= deadline:
                raise type(error)(f"{error} (tried for {job.connect_timeout:g} s)") from error
            await asyncio.sleep(pause)
    try:
        yield connected
    except BaseException:
        connected.terminate()  # whoever has no time for a result has none for a goodbye
        raise
    await connected.close()


async def preview(job: Job) -> Outcome:
    """Decide what `up` would do, without a lock and without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    async with session(job) as connected:
        decision = await decide(job, connected)
    return Done(decision) if isinstance(decision, Plan) else decision


async def look(job: Job) -> tuple[Ledger, Holder | None]:
    """Read the ledger, and who holds its lock, without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    async with session(job) as connected:
        return await read(connected, job.source, limit=PATIENCE), await lock.holder(connected, lock.key(_relation(job)))


async def decide(job: Job, connected: Session) -> Plan | Refusal:
    """Read the ledger and decide what is to be done."""
    return planned(job, await read(connected, job.source, limit=PATIENCE))


def _relation(job: Job) -> str:
    return job.source.dialect.relation(job.source.schema, job.source.table)
