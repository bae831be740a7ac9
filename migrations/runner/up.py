"""`up`: applies what is pending exactly once, however many runs start at the same time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from migrations.core.plan import UpPlan
from migrations.postgres.errors import ConnectionLost, DatabaseError
from migrations.reader.reader import READ_TIMEOUT, read_ledger
from migrations.runner.locked_session import MAX_LOST_CONNECTIONS, open_session, run_under_lock
from migrations.runner.run import Done, Failed, RunProgress, plan_run

if TYPE_CHECKING:
    from migrations.core.migration import Migration
    from migrations.core.plan import Refusal
    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import Outcome, RunOptions

_ENDS_SESSION = r"(?i)\bpg_terminate_backend\b"
_RECORD_WAIT = 5.0  # seconds to wait for the lock in order to record why a migration failed


async def up(run: RunOptions, reporter: Reporter) -> Outcome:
    """Apply what is pending, in order, under the lock.

    With nothing pending this is one read without a lock. After a lost connection the run connects again and plans
    again: the ledger shows whether the last migration was committed.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """
    progress = RunProgress()
    try:
        outcome = await _apply_until_done(run, reporter, progress)
    except asyncio.CancelledError:
        progress.report_interruption(reporter)
        raise
    if isinstance(outcome, Failed) and outcome.session_ended:
        await _record_lost_failure(run, reporter, outcome)
    return outcome


async def _apply_until_done(run: RunOptions, reporter: Reporter, progress: RunProgress) -> Outcome:
    async def check_first(session: Session) -> Outcome | None:
        plan = await _plan(run, session)
        if isinstance(plan, UpPlan):
            return None if plan.steps else Done(replace(plan, steps=tuple(progress.applied)))
        # A dirty revision may be one that another run applies right now; only the lock shows that it is not.
        return None if plan.only_dirty else plan

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
            if progress.running and (reason := _ended_by(progress.running, error, losses)):
                return Failed(progress.running, reason, session_ended=True)
            if losses == MAX_LOST_CONNECTIONS:
                raise
            reporter.info("connection_lost", f"{error}; connecting again", applied=applied_before)


async def _record_lost_failure(run: RunOptions, reporter: Reporter, failed: Failed) -> None:
    """Record, in a new session, why a migration failed that ended the session it ran in."""

    async def record(session: Session) -> None:
        from migrations.runner.executor import record_lost_failure  # noqa: PLC0415 - as above

        await record_lost_failure(run, session, failed)

    with suppress(DatabaseError):  # the row still says `running` then, as it does after SIGKILL
        await run_under_lock(replace(run, lock_wait_timeout=_RECORD_WAIT), reporter, record)


def _ended_by(migration: Migration, error: ConnectionLost, losses: int) -> str | None:
    """Return why a lost connection is a failure of the migration that ran; None where the run is to connect again."""
    body = migration.up
    if body.sql is None and not body.transactional:
        return str(error)  # how far it came is unknown, so no other connection can go on with it
    if losses < MAX_LOST_CONNECTIONS:
        return None
    from migrations.runner.section import Section  # noqa: PLC0415 - as above

    line = Section(migration, body, "up").find_line(_ENDS_SESSION)
    if line is None:
        return None
    return (
        f"{migration.path}:{line}: the connection was lost {losses} times while it ran, the last time with: {error}; "
        "where pg_terminate_backend ends other sessions, leave out the migration's own: pid <> pg_backend_pid()"
    )


async def preview(run: RunOptions) -> Outcome:
    """Return what `up` would do, without a lock and without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """
    async with open_session(run) as session:
        plan = await _plan(run, session)
        if not isinstance(plan, UpPlan):
            return plan
        from migrations.runner.ledger_writer import LedgerWriter, find_preparation  # noqa: PLC0415 - as above

        return Done(plan, await find_preparation(session, LedgerWriter.for_run(run, plan.batch)))


async def _plan(run: RunOptions, session: Session) -> UpPlan | Refusal:
    return plan_run(run, await read_ledger(session, run.source, limit=READ_TIMEOUT))
