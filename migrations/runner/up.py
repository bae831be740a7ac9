"""`up`: applies what is pending exactly once, however many runs start at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from migrations.core.plan import UpPlan
from migrations.postgres.errors import ConnectionLost
from migrations.reader.reader import READ_TIMEOUT, read_ledger
from migrations.runner.locked_session import MAX_LOST_CONNECTIONS, open_session, run_under_lock
from migrations.runner.run import Done, RunProgress, plan_run

if TYPE_CHECKING:
    from migrations.core.plan import Refusal
    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import Outcome, RunOptions


async def up(run: RunOptions, reporter: Reporter) -> Outcome:
    """Apply what is pending, in order, under the lock.

    With nothing pending this is one read without a lock. After a lost connection the run connects again and plans
    again: the ledger shows whether the last migration was committed.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """
    progress = RunProgress()

    async def check_first(session: Session) -> Outcome | None:
        plan = await _plan(run, session)
        if isinstance(plan, UpPlan):
            return None if plan.steps else Done(replace(plan, steps=tuple(progress.applied)))
        # A dirty revision may be one that another run applies right now; only the lock shows that it is not.
        return None if plan.dirty else plan

    async def apply(session: Session) -> Outcome:
        from migrations.runner.executor import apply_pending  # noqa: PLC0415 - most of the package; most runs find nothing to do

        return await apply_pending(run, reporter, session, progress)

    losses, applied_before = 0, 0
    while True:
        try:
            return await run_under_lock(run, reporter, apply, check_first)
        except ConnectionLost as error:
            losses = losses + 1 if len(progress.applied) == applied_before else 1
            applied_before = len(progress.applied)
            if losses == MAX_LOST_CONNECTIONS:
                raise
            reporter.info("connection_lost", f"{error}; connecting again", applied=applied_before)
        except asyncio.CancelledError:
            progress.report_interruption(reporter)
            raise


async def preview(run: RunOptions) -> Outcome:
    """Return what `up` would do, without a lock and without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """
    async with open_session(run) as session:
        plan = await _plan(run, session)
    return Done(plan) if isinstance(plan, UpPlan) else plan


async def _plan(run: RunOptions, session: Session) -> UpPlan | Refusal:
    return plan_run(run, await read_ledger(session, run.source, limit=READ_TIMEOUT))
