"""Carries out a plan exactly once, whoever else tries at the same time."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from migrations import lock, steps
from migrations.database import Unreachable, connect
from migrations.plan import Plan, Refusal, plan
from migrations.reader import read
from migrations.steps import Book, StepFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from migrations.database import Session
    from migrations.files import Migration
    from migrations.ledger import Ledger
    from migrations.lock import Holder
    from migrations.reader import Source

# A session that holds the lock must not outlive its process, not even in the middle of a statement.
# https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS
SETTINGS = {
    "client_connection_check_interval": "1s",  # PostgreSQL 14 and newer
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
FIRST_PAUSE = 0.05
"""Seconds before the second attempt, at the lock or at a connection."""
LONGEST_PAUSE = 1.0
"""Seconds that the pause grows to; who waits holds no connection meanwhile."""


class Events(Protocol):
    """What a run tells while it goes on."""

    def waiting(self, holder: Holder | None, seconds: float) -> None:
        """Somebody else holds the lock; we have waited for so long."""

    def starting(self, migration: Migration, number: int, total: int) -> None:
        """A migration begins, the first of `total` being number 1."""

    def applied(self, migration: Migration, milliseconds: int, number: int, total: int) -> None:
        """A migration is applied and recorded."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is to do.

    Attributes:
        source: The native ledger.
        migrations: Every file, in order.
        applied_by: Pod or host.
        target: Canonical name of the last revision to apply; None for all.
        connect_timeout: Seconds until a server that does not answer is given up.
        lock_timeout: Seconds until a lock that somebody else holds is given up.
        out_of_order: Whether a revision may be applied after a newer one.
    """

    source: Source
    migrations: Sequence[Migration]
    applied_by: str
    target: str | None = None
    connect_timeout: float = 30.0
    lock_timeout: float = 600.0
    out_of_order: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The ledger holds what was wanted.

    Attributes:
        plan: The last one made, whose steps are those that this run applied.
    """

    plan: Plan


@dataclass(frozen=True, slots=True)
class Failed:
    """A migration failed; those before it are applied.

    Attributes:
        migration: Which.
        reason: File, line and why.
    """

    migration: Migration
    reason: str


@dataclass(frozen=True, slots=True)
class LockTimeout:
    """Somebody else held the lock for too long.

    Attributes:
        holder: Who; None when that could not be seen.
    """

    holder: Holder | None


Outcome = Done | Refusal | Failed | LockTimeout
Result = TypeVar("Result")


async def up(job: Job, events: Events) -> Outcome:
    """Apply what is pending, in order, under the lock.

    With nothing pending this is one read without a lock.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """

    async def settled(connected: Session) -> Outcome | None:
        decision = await _decide(job, connected)
        if isinstance(decision, Plan):
            return None if decision.steps else Done(decision)
        return None if decision.dirty else decision  # what is dirty without the lock may be running right now

    return await under_lock(job, events, lambda connected: _apply(job, connected, events), settled)


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
    pauses = _Pauses(random.random)
    number = lock.key(_relation(job))
    while True:
        async with session(job) as connected:
            if settled is not None and (result := await settled(connected)) is not None:
                return result
            async with lock.attempt(connected, number) as held:
                if held:
                    return await work(connected)
            holder = await lock.holder(connected, number)
        waited = clock() - began
        if waited >= job.lock_timeout:
            return LockTimeout(holder)
        events.waiting(holder, waited)
        await asyncio.sleep(pauses.next())


@asynccontextmanager
async def session(job: Job) -> AsyncIterator[Session]:
    """Connect, trying again until `connect_timeout` while nobody answers or the server takes no session yet.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + job.connect_timeout
    pauses = _Pauses(random.random)
    while True:
        try:
            connected = await connect(
                job.source.address,
                timeout=max(0.1, deadline - clock()),
                application_name=f"ledgergate {job.applied_by}",
            )
            break
        except Unreachable as error:
            pause = pauses.next()
            if clock() + pause >= deadline:
                raise type(error)(f"{error} (tried for {job.connect_timeout:g} s)") from error
            await asyncio.sleep(pause)
    try:
        yield connected
    finally:
        await connected.close()


async def _apply(job: Job, connected: Session, events: Events) -> Outcome:
    decision = await _decide(job, connected)  # again: now nobody else can change the ledger
    if isinstance(decision, Refusal) or not decision.steps:
        return decision if isinstance(decision, Refusal) else Done(decision)
    await connected.configure(SETTINGS)
    book = book_of(job, decision.batch)
    await steps.prepare(connected, book)
    total = len(decision.steps)
    for number, migration in enumerate(decision.steps, start=1):
        events.starting(migration, number, total)
        try:
            milliseconds = await steps.apply(connected, book, migration)
        except StepFailed as error:
            return Failed(migration, str(error))
        events.applied(migration, milliseconds, number, total)
    return Done(decision)


async def preview(job: Job) -> Outcome:
    """Decide what `up` would do, without a lock and without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    async with session(job) as connected:
        decision = await _decide(job, connected)
    return Done(decision) if isinstance(decision, Plan) else decision


async def look(job: Job) -> tuple[Ledger, Holder | None]:
    """Read the ledger, and who holds its lock, without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    async with session(job) as connected:
        return await read(connected, job.source), await lock.holder(connected, lock.key(_relation(job)))


def book_of(job: Job, batch: int) -> Book:
    """Say where and as what a run writes."""
    dialect = job.source.dialect
    return Book(job.source.schema or dialect.schema, job.source.table or dialect.table, batch, job.applied_by)


async def _decide(job: Job, connected: Session) -> Plan | Refusal:
    return plan(job.migrations, await read(connected, job.source), job.target, out_of_order=job.out_of_order)


def _relation(job: Job) -> str:
    return job.source.dialect.relation(job.source.schema, job.source.table)


class _Pauses:
    """Pauses that double from FIRST_PAUSE to LONGEST_PAUSE, each with half of it at random."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._pause = FIRST_PAUSE

    def next(self) -> float:
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause * (0.5 + self._jitter() / 2)
