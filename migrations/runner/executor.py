"""Applying what is pending, and undoing what is applied, so that the ledger never records what did not happen."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from migrations.core.ledger import DOWN_ERROR, Ledger, State
from migrations.core.plan import Refusal, UpPlan
from migrations.core.revision import spellings
from migrations.postgres.errors import INSUFFICIENT_PRIVILEGE, DatabaseError, StatementFailed
from migrations.reader.reader import READ_TIMEOUT, read_ledger
from migrations.runner import blockers, transactional
from migrations.runner.ledger_writer import LedgerWriter, prepare_table
from migrations.runner.reporter import report_notices
from migrations.runner.run import Done, Failed, plan_run
from migrations.runner.section import MigrationFailed, Section

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from migrations.core.migration import Migration, SectionBody
    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter
    from migrations.runner.resume import ResumePoint
    from migrations.runner.run import Outcome, RunOptions, RunProgress
    from migrations.runner.splitter import Statement

_RESUMABLE_HINT = (
    ". The statements before it are done; up continues with it once the cause is removed. To change the file, settle "
    "the revision first: `ledgergate migrate resolve {revision} --rolled-back` or `--applied`"
)
_NOT_RESUMABLE_HINT = (
    ". The statements before it are done, but up cannot continue: {reason}. Complete the rest by hand and record that "
    "by `ledgergate migrate resolve {revision} --applied`, or undo what is done and use `--rolled-back`"
)
_RECORD_TIMEOUT = 1.0  # seconds to record why a migration ended: a pod that is stopped has no more time to lose


async def apply_pending(run: RunOptions, reporter: Reporter, session: Session, progress: RunProgress) -> Outcome:
    """Plan again, now that no other run can change the ledger, and apply the plan.

    Args:
        run: The ledger, the migrations and the limits.
        reporter: Reports each migration.
        session: The session that holds the lock.
        progress: How far the run has come on earlier connections; updated here.

    Raises:
        DatabaseError: The connection was lost; the migration that ran is not in `progress.applied`.
    """
    plan, resume_point = await _plan_with_resume(run, reporter, session)
    if isinstance(plan, Refusal):
        return plan
    progress.batch = progress.batch or plan.batch
    writer = LedgerWriter.for_run(run, progress.batch, session.lock)
    if plan.steps:
        await prepare_table(session, writer)
    progress.total = len(progress.applied) + len(plan.steps)

    def running() -> str | None:
        return progress.running.revision if progress.running else None

    lock_timeout = run.limits.lock_timeout
    async with blockers.report_blockers(run.source.address, session.lock_pid or 0, lock_timeout, running, reporter):
        for migration in plan.steps:
            start = resume_point if resume_point and resume_point.revision == migration.revision else None
            try:
                await _apply_step(reporter, session, writer, migration, start, progress)
            except MigrationFailed as error:
                reason = await describe_failure(session, writer, error, migration.up)
                return Failed(migration, reason, session_ended=session.closed)
            except StatementFailed as error:  # a statement of our own, about the ledger or the session
                section = Section(migration, migration.up, "up")
                return Failed(migration, str(section.ledger_error(error, writer.name)), session_ended=session.closed)
    return Done(replace(plan, steps=tuple(progress.applied)))


async def describe_failure(session: Session, writer: LedgerWriter, error: MigrationFailed, body: SectionBody) -> str:
    """Return why a section failed; where the role lacks a right, with the statement that grants it."""
    if error.sqlstate != INSUFFICIENT_PRIVILEGE or session.closed:
        return str(error)
    from migrations.reader.rights import describe_missing_right  # noqa: PLC0415 - rare

    cause: BaseException = error
    while isinstance(cause, MigrationFailed) and cause.__cause__ is not None:
        cause = cause.__cause__
    with suppress(DatabaseError):
        return f"{error}{await describe_missing_right(session, str(cause), body.sql or '', writer.table)}"
    return str(error)


async def _plan_with_resume(
    run: RunOptions, reporter: Reporter, session: Session
) -> tuple[UpPlan | Refusal, ResumePoint | None]:
    """Plan the run; a dirty migration that can be resumed counts as pending."""
    ledger = await read_ledger(session, run.source, limit=READ_TIMEOUT)
    plan = plan_run(run, ledger)
    dirty = ledger.dirty
    if isinstance(plan, UpPlan) or not plan.only_dirty or dirty is None:
        return plan, None
    migration = next((migration for migration in run.migrations if migration.revision == dirty.revision), None)
    if migration is None:
        return plan, None
    from migrations.runner.resume import find_resume_point  # noqa: PLC0415 - rare

    writer = LedgerWriter.for_run(run, batch=0)  # it only reads the progress
    await prepare_table(session, writer)
    resume_point = await find_resume_point(session, writer, migration, dirty)
    if isinstance(resume_point, str):
        (obstacle, text), *others = plan.obstacles
        return Refusal(((obstacle, f"{text}. It cannot be resumed: {resume_point}"), *others)), None
    reporter.info(
        "resuming",
        f"{migration.revision} was interrupted; it continues after {resume_point.done} completed statements",
        revision=migration.revision,
        done=resume_point.done,
    )
    return plan_run(run, Ledger.of(record for record in ledger.records if record is not dirty)), resume_point


async def _apply_step(
    reporter: Reporter,
    session: Session,
    writer: LedgerWriter,
    migration: Migration,
    resume_point: ResumePoint | None,
    progress: RunProgress,
) -> None:
    number = len(progress.applied) + 1
    progress.running = migration
    reporter.starting(migration, number, progress.total)
    with report_notices(session, migration.revision, reporter):
        milliseconds = await _apply_migration(session, writer, migration, reporter, resume_point)
    progress.running = None
    progress.applied.append(migration)
    reporter.applied(migration, milliseconds, number, progress.total)


async def _apply_migration(
    session: Session, writer: LedgerWriter, migration: Migration, reporter: Reporter, resume_point: ResumePoint | None
) -> int:
    """Apply one migration, record it, and return its duration in milliseconds.

    Raises:
        MigrationFailed: The migration failed.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    section = Section(migration, migration.up, "up")
    started = time.monotonic()
    if migration.up.transactional:
        record = writer.guarded_statement("record", session, migration)
        await transactional.run_section(session, writer, section, record, reporter)
        return _milliseconds_since(started)
    # Outside a transaction in two steps: the row says `running` before the first statement, and `applied` after the
    # last. Whatever ends the process in between leaves a row that says `running`.
    if migration.up.sql is None:
        function = transactional.load_section_function(section)
        await _write_begin(session, writer, section, writer.guarded_statement("begin", session, migration), None)
        async with _record_failure(session, writer, section):
            await session.execute(transactional.application_name_statements(session, writer, section))
            await transactional.call_function(session, section, function)
            if session.in_transaction:
                raise section.open_transaction_error()
            await session.reset()
            await _write_end(session, writer, section, "finish", spellings(migration.revision), State.APPLIED, None)
    else:
        from migrations.runner import non_transactional  # noqa: PLC0415 - few migrations need it

        statements = non_transactional.split_section(section)
        if resume_point is None:
            begin = writer.guarded_statement("begin", session, migration)
            await _write_begin(session, writer, section, begin, len(statements))
        else:
            await _write_begin(session, writer, section, writer.guarded_statement("resume", session, migration))
        done = resume_point.done if resume_point else 0
        try:
            async with _record_failure(session, writer, section):
                await non_transactional.run_statements(session, writer, section, statements, reporter, done=done)
                await _write_end(session, writer, section, "finish", spellings(migration.revision), State.APPLIED, None)
        except MigrationFailed as error:
            hint = await _resume_hint(session, writer, section, statements)
            raise MigrationFailed(f"{str(error).removesuffix('.') if hint else error}{hint}", error.sqlstate) from error
    return _milliseconds_since(started)


async def undo_migration(
    session: Session, writer: LedgerWriter, migration: Migration, down: SectionBody, reporter: Reporter
) -> int:
    """Undo one migration, remove its row, and return the duration in milliseconds.

    Outside a transaction, the row says `running` while the section runs, and `failed` after a failure; in both cases
    its `error` says that the migration was being undone.

    Raises:
        MigrationFailed: The section failed.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    section = Section(migration, down, "down")
    started = time.monotonic()
    if down.transactional:
        unrecord = writer.guarded_statement("unrecord", session, migration)
        await transactional.run_section(session, writer, section, unrecord, reporter)
        return _milliseconds_since(started)
    from migrations.runner import non_transactional  # noqa: PLC0415 - as above

    function = transactional.load_section_function(section) if down.sql is None else None
    statements = () if function else non_transactional.split_section(section)
    begin = writer.statement("begin_undo")
    await _write_begin(session, writer, section, begin, spellings(migration.revision), writer.applied_by, DOWN_ERROR)
    async with _record_failure(session, writer, section, f"{DOWN_ERROR}: "):
        if function is None:
            # Without progress: a section that undoes is not resumed.
            await non_transactional.run_statements(session, writer, section, statements, reporter, recorded=False)
        else:
            await transactional.call_function(session, section, function)
            if session.in_transaction:
                raise section.open_transaction_error()
            await session.reset()
        await _write_end(session, writer, section, "remove_undone")
    return _milliseconds_since(started)


async def record_lost_failure(run: RunOptions, session: Session, failed: Failed) -> None:
    """Record, in a new session that holds the lock, why a migration failed that ended the session it ran in."""
    writer = LedgerWriter.for_run(run, batch=0, lock=session.lock)
    await session.fetch(writer.statement("finish"), spellings(failed.migration.revision), State.FAILED, failed.reason)


async def _write_begin(
    session: Session, writer: LedgerWriter, section: Section, statement: str, *arguments: object
) -> None:
    """Record that a section outside a transaction begins.

    Raises:
        MigrationFailed: The session no longer holds the lock, so that nothing may be recorded.
    """
    try:
        await session.execute(statement, *arguments)
    except StatementFailed as error:
        if writer.is_lock_lost(error):
            raise section.lock_not_held_error() from error
        raise


async def _write_end(session: Session, writer: LedgerWriter, section: Section, name: str, *arguments: object) -> None:
    """Record that a section outside a transaction was completed.

    Raises:
        MigrationFailed: The section has let go of the lock, so that nothing may be recorded.
    """
    statement = writer.statement(name, revision=section.migration.revision)
    try:
        await session.execute(statement, *arguments)
    except StatementFailed as error:
        if writer.is_lock_lost(error):
            raise section.lost_lock_error() from error
        raise


async def _resume_hint(
    session: Session, writer: LedgerWriter, section: Section, statements: Sequence[Statement]
) -> str:
    """Return the hint for a failed migration whose first statements are committed: how to continue or to settle it."""
    from migrations.runner.resume import find_lost_state  # noqa: PLC0415 - as above

    revision = section.migration.revision
    reason = None
    if not session.closed:
        try:
            rows = await session.fetch(writer.statement("stopped"), spellings(revision))
        except StatementFailed:
            return ""  # it is the ledger that failed, so what can be done is unknown
        reason = find_lost_state(section, statements, rows[0]["statements_done"] or 0) if rows else None
    if reason is not None:
        return _NOT_RESUMABLE_HINT.format(reason=reason, revision=revision)
    return _RESUMABLE_HINT.format(revision=revision)


@asynccontextmanager
async def _record_failure(
    session: Session, writer: LedgerWriter, section: Section, prefix: str = ""
) -> AsyncIterator[None]:
    """Record `failed` and the reason when the block raises, also when it is cancelled by SIGTERM."""
    revision = section.migration.revision
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, Exception) else f"interrupted ({type(error).__name__})"
        # The original error matters more than a failure to record it. The row still says `running` then, as it does
        # after SIGKILL: with the lock free, the next run knows that this one has ended.
        with suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(_RECORD_TIMEOUT):
                await session.rollback()
                await session.reset()  # the migration's role may have no privilege on the ledger
                if writer.lock:
                    # Where the migration has let the lock go, and no other run has it, this run may write again.
                    await session.fetch(writer.lock.reacquire)
                await session.fetch(writer.statement("finish"), spellings(revision), State.FAILED, prefix + reason)
        raise


def _milliseconds_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
