"""Carries out `down`: undoes what is applied, newest first, under the lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.plan import DownPlan, Refusal, plan_down
from migrations.reader.reader import read_ledger
from migrations.runner import executor
from migrations.runner.ledger_writer import ledger_writer
from migrations.runner.locked_session import run_under_lock
from migrations.runner.run import Failed, LockTimeout
from migrations.runner.section import MigrationFailed

if TYPE_CHECKING:
    from migrations.postgres.session import Session
    from migrations.runner.run import Reporter, RunOptions


@dataclass(frozen=True, slots=True)
class Undone:
    """Everything that was to be undone is.

    Attributes:
        undo: What that was.
    """

    undo: DownPlan


async def down(
    run: RunOptions, report: Reporter, *, count: int | None = None, target: str | None = None
) -> Undone | Refusal | Failed | LockTimeout:
    """Undo the last batch, or the newest `count` revisions, or all after `target`; newest first, under the lock.

    Each is undone together with its row. What fails stops the run; what was undone before it stays undone.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
    """

    async def work(session: Session) -> Undone | Refusal | Failed:
        decision = plan_down(run.migrations, await read_ledger(session, run.source), steps=count, target=target)
        if isinstance(decision, Refusal):
            return decision
        return await _undo(run, session, decision, report)

    return await run_under_lock(run, report, work)


async def _undo(run: RunOptions, session: Session, undo: DownPlan, report: Reporter) -> Undone | Failed:
    _announce(undo, report)
    writer = ledger_writer(run, batch=0)
    total = len(undo.steps)
    for number, (migration, script) in enumerate(undo.steps, start=1):
        report.starting(migration, number, total)
        try:
            milliseconds = await executor.undo_migration(session, writer, migration, script, report.info)
        except MigrationFailed as error:
            return Failed(migration, str(error))
        text = f"undid {migration.revision} in {milliseconds} ms ({number} of {total})"
        report.info("undone", text, revision=migration.revision, duration_ms=milliseconds, number=number, total=total)
    return Undone(undo)


def _announce(undo: DownPlan, report: Reporter) -> None:
    """Say what will be undone, before anything is."""
    for migration, _ in undo.steps:
        contract = (
            f" (a contract migration: with it, images older than {migration.compatible_from} cannot run)"
            if migration.compatible_from
            else ""
        )
        report.info("will_undo", f"will undo {migration.revision}{contract}", revision=migration.revision)
