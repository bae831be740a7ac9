"""Carries out `baseline` and `resolve`: what writes the ledger and runs no migration, under the lock all the same."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrations import lock, steps
from migrations.adoption import Adoption, Mismatch, plan_adoption
from migrations.book import book_of
from migrations.job import LockTimeout
from migrations.ledger import State
from migrations.plan import Baseline, Refusal, plan_baseline
from migrations.runner import LONGEST_PAUSE, under_lock
from migrations.source import locate, read
from migrations.statements import bind, load, quoted

if TYPE_CHECKING:
    from migrations.book import Book
    from migrations.database import Session
    from migrations.dialects.detection import Location
    from migrations.job import Job
    from migrations.ledger import Ledger, Record
    from migrations.report import Report
    from migrations.source import Source

_SQL = load("adoption")
READING = 30.0
"""Seconds that reading a ledger may take; whoever changes one had better wait for a busy server than fail."""
PATIENCE = 10.0
"""Seconds for which `resolve` tries to get the lock: long enough for others that only look in, too short for a run."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The revision is as was said.

    Attributes:
        changed: Whether the ledger was written; it may have said so already.
        checksum_renewed: Whether the record now has the sum of the file here, which is another than the one recorded.
    """

    changed: bool
    checksum_renewed: bool = False


@dataclass(frozen=True, slots=True)
class NotDirty:
    """There is nothing to settle.

    Attributes:
        reason: What the ledger says of the revision, and which one it could be.
    """

    reason: str


async def baseline(job: Job, report: Report) -> Baseline | Refusal | LockTimeout:
    """Record every revision up to the job's target as applied, in one transaction, without running it.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """

    async def work(session: Session) -> Baseline | Refusal:
        decision = plan_baseline(job.migrations, await read(session, job.source), job.target)
        if isinstance(decision, Baseline) and decision.steps:
            book = book_of(job, batch=0)
            async with session.transaction():
                await steps.prepare(session, book)
                for m in decision.steps:
                    row = (m.revision, m.checksum, book.applied_by, m.compatible_from)
                    await session.rows(book.sql("baseline"), *row)
        return decision

    return await under_lock(job, report, work)


async def adopt(job: Job, theirs: Source, report: Report) -> Adoption | Mismatch | LockTimeout:
    """Take over what another tool's ledger says, in one transaction; neither tool may be at work meanwhile.

    Args:
        job: Our own ledger, the files, and the last revision to take over.
        theirs: The other ledger, in the same database.
        report: Told who is waited for.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
        LedgerUnreadable: The other table is none of the dialect's.
    """

    async def work(session: Session) -> Adoption | Mismatch | LockTimeout:
        location = await locate(session, theirs, limit=READING)
        if not location.exists:
            what = (
                "ledger of a tool that is known" if theirs.dialect.name == "auto" else f"{theirs.dialect.name} ledger"
            )
            return Mismatch((f"expected a {what} in this database, found none",))
        return await in_turn(session, location)

    async def in_turn(session: Session, location: Location) -> Adoption | Mismatch | LockTimeout:
        """Wait for whoever runs the other tool under our lock of its ledger."""
        clock = asyncio.get_running_loop().time
        began, key = clock(), lock.key(location.place.relation)
        while True:
            async with lock.attempt(session, key) as held:
                if held:
                    return await take_over(session)
            holder, waited = await lock.holder(session, key), clock() - began
            if waited >= job.lock_timeout:
                return LockTimeout(holder)
            report.waiting(holder, waited)
            await asyncio.sleep(LONGEST_PAUSE)

    async def take_over(session: Session) -> Adoption | Mismatch:
        ours, ledger = await read(session, job.source, limit=READING), await read(session, theirs, limit=READING)
        decision = plan_adoption(job.migrations, ours, ledger, job.target)
        if isinstance(decision, Adoption) and decision.steps:
            await _record(session, book_of(job, batch=0), decision)
        return decision

    return await under_lock(job, report, work)


async def _record(session: Session, book: Book, adoption: Adoption) -> None:
    rows = [
        (m.revision, m.checksum, m.compatible_from, record and record.finished_at, record and record.applied_by)
        for m, record in adoption.steps
    ]
    names, sums, oldest, times, authors = map(list, zip(*rows, strict=True))
    statement = bind(_SQL["adopt"], table=quoted(book.schema, book.table))
    async with session.transaction():
        await steps.prepare(session, book)
        await session.rows(statement, names, sums, oldest, times, [author or book.applied_by for author in authors])


async def resolve(job: Job, report: Report, revision: str, state: State | None) -> Settled | NotDirty | LockTimeout:
    """Settle a revision that failed, or whose run was killed; its run is dead when the lock can be had.

    Args:
        job: The ledger; the file of the revision, where there is one, gives the record its checksum.
        report: Told who is waited for.
        revision: Canonical name.
        state: APPLIED: it was completed by hand. None: it was undone by hand.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """

    async def work(session: Session) -> Settled | NotDirty:
        ledger = await read(session, job.source)
        record = next((record for record in ledger.records if record.revision == revision), None)
        checksum = next((m.checksum for m in job.migrations if m.revision == revision), None)
        if record is None or record.state is State.APPLIED:
            settled = state is State.APPLIED if record else state is None and checksum is not None
            return Settled(changed=False) if settled else NotDirty(_nothing_to_settle(ledger, revision, record))
        book = book_of(job, batch=0)
        if state is None:
            await session.rows(book.sql("remove"), revision)
            return Settled(changed=True)
        await session.rows(book.sql("settle"), revision, checksum)
        return Settled(changed=True, checksum_renewed=checksum not in {None, record.checksum})

    patient = replace(job, lock_timeout=min(job.lock_timeout, PATIENCE))
    return await under_lock(patient, report, work)


def _nothing_to_settle(ledger: Ledger, revision: str, record: Record | None) -> str:
    there = f"{revision} is applied" if record else f"the ledger has no {revision}"
    dirty = [record.revision for record in ledger.records if record.state is not State.APPLIED]
    which = f"dirty is {', '.join(dirty)}" if dirty else "nothing in the ledger is dirty"
    return f"expected a revision that failed or never ended, but {there}; {which}"
