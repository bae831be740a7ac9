"""Carries out `baseline` and `resolve`: what writes the ledger and runs no migration, under the lock all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from migrations.core.adoption import AdoptionPlan, Mismatch, plan_adoption
from migrations.core.plan import BaselinePlan, Refusal, plan_baseline
from migrations.postgres import advisory_lock
from migrations.reader.reader import locate_ledger, read_ledger
from migrations.runner.ledger_writer import ledger_writer, prepare
from migrations.runner.locked_session import LONGEST_PAUSE, run_under_lock
from migrations.runner.run import LockTimeout
from migrations.sql.statements import bind, load, quoted

if TYPE_CHECKING:
    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session
    from migrations.reader.reader import LedgerSource
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.run import Reporter, RunOptions

_SQL = load("adoption")
READING = 30.0
"""Seconds that reading a ledger may take; whoever changes one had better wait for a busy server than fail."""


async def baseline(run: RunOptions, report: Reporter) -> BaselinePlan | Refusal | LockTimeout:
    """Record every revision up to the job's target as applied, in one transaction, without running it.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """

    async def work(session: Session) -> BaselinePlan | Refusal:
        decision = plan_baseline(run.migrations, await read_ledger(session, run.source), run.target)
        if isinstance(decision, BaselinePlan) and decision.steps:
            writer = ledger_writer(run, batch=0)
            async with session.transaction():
                await prepare(session, writer)
                for m in decision.steps:
                    row = (m.revision, m.checksum, writer.applied_by, m.compatible_from)
                    await session.rows(writer.sql("baseline"), *row)
        return decision

    return await run_under_lock(run, report, work)


async def adopt(run: RunOptions, theirs: LedgerSource, report: Reporter) -> AdoptionPlan | Mismatch | LockTimeout:
    """Take over what another tool's ledger says, in one transaction; neither tool may be at work meanwhile.

    Args:
        job: Our own ledger, the files, and the last revision to take over.
        theirs: The other ledger, in the same database.
        report: Told who is waited for.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
        LedgerUnreadable: The other table is none of the dialect's.
    """

    async def work(session: Session) -> AdoptionPlan | Mismatch | LockTimeout:
        location = await locate_ledger(session, theirs, limit=READING)
        if not location.exists:
            what = (
                "ledger of a tool that is known" if theirs.dialect.name == "auto" else f"{theirs.dialect.name} ledger"
            )
            return Mismatch((f"expected a {what} in this database, found none",))
        return await in_turn(session, location)

    async def in_turn(session: Session, location: Location) -> AdoptionPlan | Mismatch | LockTimeout:
        """Wait for whoever runs the other tool under our lock of its ledger."""
        clock = asyncio.get_running_loop().time
        began, key = clock(), advisory_lock.lock_key(location.table.relation)
        while True:
            async with advisory_lock.try_lock(session, key) as held:
                if held:
                    return await take_over(session)
            holder, waited = await advisory_lock.find_holder(session, key), clock() - began
            if waited >= run.lock_wait_timeout:
                return LockTimeout(holder)
            report.waiting(holder, waited)
            await asyncio.sleep(LONGEST_PAUSE)

    async def take_over(session: Session) -> AdoptionPlan | Mismatch:
        ours, ledger = (
            await read_ledger(session, run.source, limit=READING),
            await read_ledger(session, theirs, limit=READING),
        )
        decision = plan_adoption(run.migrations, ours, ledger, run.target)
        if isinstance(decision, AdoptionPlan) and decision.steps:
            await _record(session, ledger_writer(run, batch=0), decision)
        return decision

    return await run_under_lock(run, report, work)


async def _record(session: Session, writer: LedgerWriter, adoption: AdoptionPlan) -> None:
    rows = [
        (m.revision, m.checksum, m.compatible_from, record and record.finished_at, record and record.applied_by)
        for m, record in adoption.steps
    ]
    names, sums, oldest, times, authors = map(list, zip(*rows, strict=True))
    statement = bind(_SQL["adopt"], table=quoted(writer.schema, writer.table))
    async with session.transaction():
        await prepare(session, writer)
        await session.rows(statement, names, sums, oldest, times, [author or writer.applied_by for author in authors])
