"""Applies what is pending, one migration after the other, so that the ledger never says what did not happen."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from migrations.core.ledger import DOWN_ERROR, State
from migrations.postgres.errors import DatabaseError
from migrations.runner import blockers, non_transactional, transactional
from migrations.runner.ledger_writer import LedgerWriter, prepare
from migrations.runner.section import MigrationFailed, Section, discard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from migrations.core.migration import Migration, SectionBody
    from migrations.postgres.session import Session
    from migrations.runner.resume import ResumePoint
    from migrations.runner.section import InfoCallback


from dataclasses import replace
from typing import TYPE_CHECKING

from migrations.core.ledger import Ledger
from migrations.core.plan import Refusal, UpPlan
from migrations.reader.reader import READ_TIMEOUT, read_ledger
from migrations.runner.ledger_writer import ledger_writer
from migrations.runner.resume import find_resume_point
from migrations.runner.run import Done, Failed, plan_run

if TYPE_CHECKING:
    from migrations.core.migration import Migration
    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.resume import ResumePoint
    from migrations.runner.run import Outcome, Reporter, RunOptions, RunProgress


_GOES_ON = (
    ". What came before it is done; up goes on there once the cause is gone. To change the file, settle it first: "
    "`ledgergate migrate resolve {revision} --rolled-back` or `--applied`"
)
_LAST_WORD = 1.0  # seconds to write down why a run ends


async def apply_migration(
    session: Session,
    writer: LedgerWriter,
    migration: Migration,
    info: InfoCallback = discard,
    stopped: ResumePoint | None = None,
) -> int:
    """Apply one migration and record it.

    Args:
        session: The one that holds the lock.
        book: Where to record.
        migration: Which.
        say: Told of what is tried again.
        stopped: Where to go on, when this migration was stopped before.

    Returns:
        How long it took, in milliseconds.

    Raises:
        StepFailed: It failed.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    section = Section(migration, migration.up, "up")
    started = time.monotonic()
    if migration.up.transactional:
        await transactional.run_section(session, writer, section, writer.entry("record", session, migration), info)
        return _since(started)
    if migration.up.sql is None:
        function = transactional.load_section_function(section)
        await session.rows(writer.entry("begin", session, migration), None)
        async with _failure_recorded(session, writer, migration):
            await session.execute(transactional.name_session(writer, section))
            await transactional.call_function(session, section, function)
            if session.in_transaction:
                raise section.left_open()
        await session.restore()
    else:
        statements = non_transactional.split_section(section)
        if stopped is None:
            await session.rows(writer.entry("begin", session, migration), len(statements))
        else:
            await session.execute(writer.entry("resume", session, migration))
        try:
            async with _failure_recorded(session, writer, migration):
                await non_transactional.run_statements(
                    session, writer, section, statements, info, done=stopped.done if stopped else 0
                )
        except MigrationFailed as error:
            raise MigrationFailed(f"{error}{_GOES_ON.format(revision=migration.revision)}") from error
    await session.rows(writer.sql("finish"), migration.revision, State.APPLIED, None)
    return _since(started)


async def undo_migration(
    session: Session, writer: LedgerWriter, migration: Migration, down: SectionBody, info: InfoCallback = discard
) -> int:
    """Undo one migration and take it off the ledger.

    Outside a transaction, its row says `running` first; what fails leaves `failed`, and the reason says that it was
    being undone.

    Returns:
        How long it took, in milliseconds.

    Raises:
        StepFailed: It failed.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    section = Section(migration, down, "down")
    started = time.monotonic()
    if down.transactional:
        await transactional.run_section(session, writer, section, writer.entry("unrecord", session, migration), info)
        return _since(started)
    function = transactional.load_section_function(section) if down.sql is None else None
    statements = () if function else non_transactional.split_section(section)
    await session.rows(writer.sql("begin_undo"), migration.revision, writer.applied_by, DOWN_ERROR)
    async with _failure_recorded(session, writer, migration, f"{DOWN_ERROR}: "):
        if function is None:
            await non_transactional.run_statements(session, writer, section, statements, info, recorded=False)
        else:
            await transactional.call_function(session, section, function)
            if session.in_transaction:
                raise section.left_open()
            await session.restore()
    await session.rows(writer.sql("remove"), migration.revision)
    return _since(started)


@asynccontextmanager
async def _failure_recorded(
    session: Session, writer: LedgerWriter, migration: Migration, prefix: str = ""
) -> AsyncIterator[None]:
    """Record `failed` and why when the block raises."""
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, Exception) else f"interrupted ({type(error).__name__})"
        # What stopped it matters more than that nobody could write it down.
        with suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD):
                await session.abandon()
                await session.execute("reset role")
                await session.rows(writer.sql("finish"), migration.revision, State.FAILED, prefix + reason)
        raise


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


async def apply_pending(run: RunOptions, events: Reporter, connected: Session, progress: RunProgress) -> Outcome:
    """Decide again, now that nobody else can change the ledger, and carry it out.

    Args:
        job: What is wanted.
        events: Told how it goes.
        connected: The session that holds the lock.
        progress: How far the run has come on other connections; kept up to date.

    Raises:
        DatabaseError: The connection was lost; what was being applied is not in `progress`.
    """
    decision, stopped = await _decide(run, events, connected)
    if isinstance(decision, Refusal):
        return decision
    progress.batch = progress.batch or decision.batch
    writer = ledger_writer(run, progress.batch)
    if decision.steps:
        await prepare(connected, writer)
    progress.total = len(progress.applied) + len(decision.steps)

    def running() -> str | None:
        return progress.running.revision if progress.running else None

    limit = run.limits.lock_timeout
    async with blockers.report_blockers(run.source.address, connected.locked_by or 0, limit, running, events.info):
        for migration in decision.steps:
            here = stopped if stopped and stopped.revision == migration.revision else None
            try:
                await _step(events, connected, writer, migration, here, progress)
            except MigrationFailed as error:
                return Failed(migration, str(error))
    return Done(replace(decision, steps=tuple(progress.applied)))


async def _step(
    events: Reporter,
    connected: Session,
    writer: LedgerWriter,
    migration: Migration,
    stopped: ResumePoint | None,
    progress: RunProgress,
) -> None:
    number = len(progress.applied) + 1
    progress.running = migration
    events.starting(migration, number, progress.total)
    milliseconds = await apply_migration(connected, writer, migration, events.info, stopped)
    progress.running = None
    progress.applied.append(migration)
    events.applied(migration, milliseconds, number, progress.total)


async def _decide(run: RunOptions, events: Reporter, connected: Session) -> tuple[UpPlan | Refusal, ResumePoint | None]:
    """Decide; what is dirty counts as pending when it can go on where it stopped."""
    ledger = await read_ledger(connected, run.source, limit=READ_TIMEOUT)
    decision = plan_run(run, ledger)
    dirty = ledger.dirty
    if isinstance(decision, UpPlan) or not decision.only_dirty or dirty is None:
        return decision, None
    migration = next((m for m in run.migrations if m.revision == dirty.revision), None)
    if migration is None:
        return decision, None
    writer = ledger_writer(run, 0)
    await prepare(connected, writer)
    stopped = await find_resume_point(connected, writer, migration, dirty)
    if isinstance(stopped, str):
        (obstacle, text), *others = decision.obstacles
        return Refusal(((obstacle, f"{text}. Why it does not go on by itself: {stopped}"), *others)), None
    how = f"goes on after {stopped.done} statements that are done"
    events.info(
        "resuming", f"{migration.revision} was stopped; it {how}", revision=migration.revision, done=stopped.done
    )
    return plan_run(run, Ledger.of(record for record in ledger.records if record is not dirty)), stopped
