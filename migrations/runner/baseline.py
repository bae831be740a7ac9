"""`baseline` and `baseline --from`: record revisions as applied without running them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from migrations.core.adoption import AdoptionPlan, Mismatch, plan_adoption
from migrations.core.baseline_plan import BaselinePlan, plan_baseline
from migrations.postgres import advisory_lock
from migrations.reader.reader import READ_TIMEOUT, locate_ledger, read_ledger
from migrations.runner.ledger_writer import LedgerWriter, prepare_table
from migrations.runner.locked_session import LONGEST_PAUSE, run_under_lock
from migrations.runner.run import LockNotAcquired
from migrations.sql.statements import bind, load, quoted

if TYPE_CHECKING:
    from migrations.core.plan import Refusal
    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session
    from migrations.reader.reader import LedgerSource
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import RunOptions

_SQL = load("adoption")


async def baseline(run: RunOptions, reporter: Reporter) -> BaselinePlan | Refusal | LockNotAcquired:
    """Record every revision up to the run's target as applied, in one transaction.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """

    async def work(session: Session) -> BaselinePlan | Refusal:
        plan = plan_baseline(run.migrations, await read_ledger(session, run.source), run.target)
        if isinstance(plan, BaselinePlan) and plan.steps:
            writer = LedgerWriter.for_run(run, batch=0)
            async with session.transaction():
                await prepare_table(session, writer)
                for m in plan.steps:
                    row = (m.revision, m.checksum, writer.applied_by, m.compatible_from)
                    await session.fetch(writer.statement("baseline"), *row)
        return plan

    return await run_under_lock(run, reporter, work)


async def adopt(
    run: RunOptions, foreign: LedgerSource, reporter: Reporter
) -> AdoptionPlan | Mismatch | LockNotAcquired:
    """Record what another tool's ledger holds, in one transaction.

    Holds our lock of both ledgers, so that neither `up` nor an `exec` of the other tool runs meanwhile.

    Args:
        run: Our own ledger, the migrations, and the last revision to adopt.
        foreign: The other ledger, in the same database.
        reporter: Reports who holds a lock.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
        LedgerUnreadable: The other table is not a ledger of the dialect.
    """

    async def work(session: Session) -> AdoptionPlan | Mismatch | LockNotAcquired:
        location = await locate_ledger(session, foreign, limit=READ_TIMEOUT)
        if not location.exists:
            name = "ledger of a known tool" if foreign.dialect.name == "auto" else f"{foreign.dialect.name} ledger"
            return Mismatch((f"expected a {name} in this database, found none",))
        return await adopt_under_lock(session, location)

    async def adopt_under_lock(session: Session, location: Location) -> AdoptionPlan | Mismatch | LockNotAcquired:
        """Acquire the lock of the other ledger too, which an `exec` of its tool may hold, and adopt.

        The lock of the native ledger stays held meanwhile, so `up` waits too.
        """
        clock = asyncio.get_running_loop().time
        began, key = clock(), advisory_lock.lock_key(location.table.relation)
        while True:
            async with advisory_lock.try_lock(session, key) as acquired:
                if acquired:
                    return await record(session)
            holder, waited = await advisory_lock.find_holder(session, key), clock() - began
            if waited >= run.lock_wait_timeout:
                return LockNotAcquired(holder)
            reporter.waiting(holder, waited)
            await asyncio.sleep(LONGEST_PAUSE)

    async def record(session: Session) -> AdoptionPlan | Mismatch:
        native_ledger = await read_ledger(session, run.source, limit=READ_TIMEOUT)
        foreign_ledger = await read_ledger(session, foreign, limit=READ_TIMEOUT)
        plan = plan_adoption(run.migrations, native_ledger, foreign_ledger, run.target)
        if isinstance(plan, AdoptionPlan) and plan.steps:
            await _record_adoption(session, LedgerWriter.for_run(run, batch=0), plan)
        return plan

    return await run_under_lock(run, reporter, work)


async def _record_adoption(session: Session, writer: LedgerWriter, plan: AdoptionPlan) -> None:
    rows = [
        (m.revision, m.checksum, m.compatible_from, record and record.finished_at, record and record.applied_by)
        for m, record in plan.steps
    ]
    names, checksums, compatible_from, finished_at, applied_by = map(list, zip(*rows, strict=True))
    statement = bind(_SQL["adopt"], table=quoted(writer.schema, writer.table))
    authors = [author or writer.applied_by for author in applied_by]
    async with session.transaction():
        await prepare_table(session, writer)
        await session.fetch(statement, names, checksums, compatible_from, finished_at, authors)
