"""Applies what is pending, in a session that holds the lock. Nobody imports this who finds nothing to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from migrations import lookout, steps
from migrations.book import book_of
from migrations.job import PATIENCE, Done, Failed, planned
from migrations.ledger import Ledger
from migrations.plan import Plan, Refusal
from migrations.resuming import resumable
from migrations.source import read
from migrations.task import StepFailed

if TYPE_CHECKING:
    from migrations.book import Book
    from migrations.database import Session
    from migrations.files import Migration
    from migrations.job import Events, Job, Outcome, Progress
    from migrations.resuming import Stopped


async def apply(job: Job, events: Events, connected: Session, progress: Progress) -> Outcome:
    """Decide again, now that nobody else can change the ledger, and carry it out.

    Args:
        job: What is wanted.
        events: Told how it goes.
        connected: The session that holds the lock.
        progress: How far the run has come on other connections; kept up to date.

    Raises:
        DatabaseError: The connection was lost; what was being applied is not in `progress`.
    """
    decision, stopped = await _decide(job, events, connected)
    if isinstance(decision, Refusal):
        return decision
    progress.batch = progress.batch or decision.batch
    book = book_of(job, progress.batch)
    if decision.steps:
        await steps.prepare(connected, book)
    progress.total = len(progress.applied) + len(decision.steps)

    def running() -> str | None:
        return progress.running.revision if progress.running else None

    limit = job.limits.lock_timeout
    async with lookout.posted(job.source.address, connected.locked_by or 0, limit, running, events.say):
        for migration in decision.steps:
            here = stopped if stopped and stopped.revision == migration.revision else None
            try:
                await _step(events, connected, book, migration, here, progress)
            except StepFailed as error:
                return Failed(migration, str(error))
    return Done(replace(decision, steps=tuple(progress.applied)))


async def _step(
    events: Events, connected: Session, book: Book, migration: Migration, stopped: Stopped | None, progress: Progress
) -> None:
    number = len(progress.applied) + 1
    progress.running = migration
    events.starting(migration, number, progress.total)
    milliseconds = await steps.apply(connected, book, migration, events.say, stopped)
    progress.running = None
    progress.applied.append(migration)
    events.applied(migration, milliseconds, number, progress.total)


async def _decide(job: Job, events: Events, connected: Session) -> tuple[Plan | Refusal, Stopped | None]:
    """Decide; what is dirty counts as pending when it can go on where it stopped."""
    ledger = await read(connected, job.source, limit=PATIENCE)
    decision = planned(job, ledger)
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
    how = f"goes on after {stopped.done} statements that are done"
    events.say(
        "resuming", f"{migration.revision} was stopped; it {how}", revision=migration.revision, done=stopped.done
    )
    return planned(job, Ledger.of(record for record in ledger.records if record is not dirty)), stopped
