"""Carries out a plan exactly once, whoever else tries at the same time."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from migrations import lock
from migrations.database import ConnectionLost, NotReady, Unreachable, connect
from migrations.limits import Limits, Pauses
from migrations.plan import Plan, Refusal, plan
from migrations.pooler import refuse_transaction_mode
from migrations.source import read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from migrations.database import Session
    from migrations.files import Migration
    from migrations.ledger import Ledger
    from migrations.lock import Holder
    from migrations.source import Source

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


@dataclass(slots=True)
class Progress:
    """How far a run has come, over as many connections as it needs.

    Attributes:
        applied: What it has applied, in order.
        running: What it is applying; None between two.
        total: How many it means to apply, with those that are done.
        batch: Its number in the ledger; None before it has one.
    """

    applied: list[Migration] = field(default_factory=list)
    running: Migration | None = None
    total: int = 0
    batch: int | None = None

    def tell_interrupted(self, events: Events) -> None:
        """Tell what is applied and what is not."""
        running = self.running
        how = "is rolled back" if running and running.up.transactional else "is recorded as failed"
        rest = f"; {running.revision} {how}" if running else ""
        text = f"interrupted: {len(self.applied)} of {self.total} applied by this run{rest}"
        events.say("interrupted", text, applied=len(self.applied), total=self.total)


Outcome = Done | Refusal | Failed | LockTimeout
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


def planned(job: Job, ledger: Ledger) -> Plan | Refusal:
    """Decide what is to be done with this ledger."""
    return plan(job.migrations, ledger, job.target, out_of_order=job.out_of_order)


def _relation(job: Job) -> str:
    return job.source.dialect.relation(job.source.schema, job.source.table)
