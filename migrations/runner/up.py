"""Carries out a plan exactly once, whoever else tries at the same time."""

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
    from migrations.runner.run import Outcome, Reporter, RunOptions


async def up(run: RunOptions, events: Reporter) -> Outcome:
    """Apply what is pending, in order, under the lock.

    With nothing pending this is one read without a lock. A connection that is lost on the way is made again: what the
    ledger says then is what happened.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    progress = RunProgress()

    async def settled(connected: Session) -> Outcome | None:
        decision = await decide(run, connected)
        if isinstance(decision, UpPlan):
            return None if decision.steps else Done(replace(decision, steps=tuple(progress.applied)))
        return None if decision.only_dirty else decision  # what is dirty without the lock may be running right now

    async def apply(connected: Session) -> Outcome:
        from migrations.runner.executor import apply_pending  # noqa: PLC0415 - most of the package; most runs find nothing to do

        return await apply_pending(run, events, connected, progress)

    losses, applied = 0, 0
    while True:
        try:
            return await run_under_lock(run, events, apply, settled)
        except ConnectionLost as error:
            losses = losses + 1 if len(progress.applied) == applied else 1
            applied = len(progress.applied)
            if losses == MAX_LOST_CONNECTIONS:
                raise
            events.info("connection_lost", f"{error}; connecting again", applied=applied)
        except asyncio.CancelledError:
            progress.tell_interrupted(events)
            raise


async def preview(run: RunOptions) -> Outcome:
    """Decide what `up` would do, without a lock and without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """
    async with open_session(run) as connected:
        decision = await decide(run, connected)
    return Done(decision) if isinstance(decision, UpPlan) else decision


async def decide(run: RunOptions, connected: Session) -> UpPlan | Refusal:
    """Read the ledger and decide what is to be done."""
    return plan_run(run, await read_ledger(connected, run.source, limit=READ_TIMEOUT))
