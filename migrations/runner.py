"""Carries out a plan exactly once, whoever else tries at the same time."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from migrations import lock, lookout, steps
from migrations.database import ConnectionLost, NotReady, Unreachable, connect
from migrations.ledger import Ledger
from migrations.limits import Limits, Pauses
from migrations.plan import Plan, Refusal, plan
from migrations.pooler import refuse_transaction_mode
from migrations.reader import read
from migrations.resuming import Stopped, resumable
from migrations.steps import Book, StepFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from migrations.database import Session
    from migrations.files import Migration
    from migrations.lock import Holder
    from migrations.reader import Source

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
PATIENCE = 30.0
"""Seconds that reading the ledger may take. Who watches has to answer soon; who migrates had better wait for a busy
server, or for whoever has locked the table, than fail."""


class Events(Protocol):
    """What a run tells while it goes on."""

    def waiting(self, holder: Holder | None, seconds: float) -> None:
        """Somebody else holds the lock; we have waited for so long."""

    def starting(self, migration: Migration, number: int, total: int) -> None:
        """A migration begins, the first of `total` being number 1."""

    def applied(self, migration: Migration, milliseconds: int, number: int, total: int) -> None:
        """A migration is applied and recorded."""

    def say(self, event: str, text: str, **fields: object) -> None:
        """Something else goes on that somebody may want to know."""


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
        limits: Of each migration that has none of its own.
    """

    source: Source
    migrations: Sequence[Migration]
    applied_by: str
    target: str | None = None
    connect_timeout: float = 30.0
    lock_timeout: float = 600.0
    out_of_order: bool = False
    limits: Limits = field(default_factory=Limits)


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

    With nothing pending this is one read without a lock. A connection that is lost on the way is made again: what the
    ledger says then is what happened.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    run = _Run(job, events)

    async def settled(connected: Session) -> Outcome | None:
        decision = await _decide(job, connected)
        if isinstance(decision, Plan):
            return None if decision.steps else run.done(decision)
        return None if decision.dirty else decision  # what is dirty without the lock may be running right now

    losses, applied = 0, 0
    while True:
        try:
            return await under_lock(job, events, run.apply, settled)
        except ConnectionLost as error:
            losses = losses + 1 if len(run.applied) == applied else 1
            applied = len(run.applied)
            if losses == LOSSES:
                raise
            events.say("connection_lost", f"{error}; connecting again", applied=applied)
        except asyncio.CancelledError:
            run.interrupted()
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


class _Run:
    """One `up`, over as many connections as it needs."""

    def __init__(self, job: Job, events: Events) -> None:
        self.applied: list[Migration] = []
        self._job = job
        self._events = events
        self._batch: int | None = None
        self._running: Migration | None = None
        self._total = 0

    def done(self, decision: Plan) -> Done:
        return Done(replace(decision, steps=tuple(self.applied)))

    async def apply(self, connected: Session) -> Outcome:
        """Decide again, now that nobody else can change the ledger, and carry it out."""
        decision, stopped = await self._decide(connected)
        if isinstance(decision, Refusal):
            return decision
        self._batch = self._batch or decision.batch
        book = book_of(self._job, self._batch)
        if decision.steps:
            await steps.prepare(connected, book)
        self._total = len(self.applied) + len(decision.steps)
        async with lookout.posted(
            self._job.source.address,
            connected.locked_by or 0,
            self._job.limits.lock_timeout,
            self._revision,
            self._events.say,
        ):
            for migration in decision.steps:
                try:
                    await self._step(connected, book, migration, stopped)
                except StepFailed as error:
                    return Failed(migration, str(error))
        return self.done(decision)

    async def _step(self, connected: Session, book: Book, migration: Migration, stopped: Stopped | None) -> None:
        number = len(self.applied) + 1
        self._running = migration
        self._events.starting(migration, number, self._total)
        here = stopped if stopped and stopped.revision == migration.revision else None
        milliseconds = await steps.apply(connected, book, migration, self._events.say, here)
        self._running = None
        self.applied.append(migration)
        self._events.applied(migration, milliseconds, number, self._total)

    async def _decide(self, connected: Session) -> tuple[Plan | Refusal, Stopped | None]:
        """Decide; what is dirty counts as pending when it can go on where it stopped."""
        job, ledger = self._job, await read(connected, self._job.source, limit=PATIENCE)
        decision = _planned(job, ledger)
        dirty = ledger.dirty
        if isinstance(decision, Plan) or not decision.dirty or dirty is None:
            return decision, None
        migration = next((m for m in job.migrations if m.revision == dirty.revision), None)
        if migration is None:
            return decision, None
        book = book_of(job, 0)
        await steps.prepare(connected, book)
        stopped = await resumable(connected, book, migration, dirty)
        if isinstance(stopped, str):
            (obstacle, text), *others = decision.obstacles
            return Refusal(((obstacle, f"{text}. Why it does not go on by itself: {stopped}"), *others)), None
        total = f"goes on after {stopped.done} statements that are done"
        self._events.say(
            "resuming", f"{migration.revision} was stopped; it {total}", revision=migration.revision, done=stopped.done
        )
        return _planned(job, Ledger.of(record for record in ledger.records if record is not dirty)), stopped

    def _revision(self) -> str | None:
        return self._running.revision if self._running else None

    def interrupted(self) -> None:
        """Tell what is applied and what is not."""
        running = self._running
        how = "is rolled back" if running and running.up.transactional else "is recorded as failed"
        rest = f"; {running.revision} {how}" if running else ""
        text = f"interrupted: {len(self.applied)} of {self._total} applied by this run{rest}"
        self._events.say("interrupted", text, applied=len(self.applied), total=self._total)


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
        return await read(connected, job.source, limit=PATIENCE), await lock.holder(connected, lock.key(_relation(job)))


def book_of(job: Job, batch: int) -> Book:
    """Say where and as what a run writes."""
    dialect = job.source.dialect
    schema, table = job.source.schema or dialect.schema, job.source.table or dialect.table
    return Book(schema, table, batch, job.applied_by, job.limits)


async def _decide(job: Job, connected: Session) -> Plan | Refusal:
    return _planned(job, await read(connected, job.source, limit=PATIENCE))


def _planned(job: Job, ledger: Ledger) -> Plan | Refusal:
    return plan(job.migrations, ledger, job.target, out_of_order=job.out_of_order)


def _relation(job: Job) -> str:
    return job.source.dialect.relation(job.source.schema, job.source.table)
