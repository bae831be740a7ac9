"""`down`: undoes what is applied, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.down_plan import DownPlan, plan_down
from migrations.core.plan import Refusal
from migrations.postgres.errors import StatementFailed
from migrations.reader.reader import read_ledger
from migrations.runner import executor
from migrations.runner.ledger_writer import LedgerWriter
from migrations.runner.locked_session import run_under_lock
from migrations.runner.reporter import report_notices
from migrations.runner.run import Failed, LockNotAcquired
from migrations.runner.section import MigrationFailed, Section

if TYPE_CHECKING:
    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import RunOptions


@dataclass(frozen=True, slots=True)
class Undone:
    """Every migration of the plan is undone.

    Attributes:
        plan: The plan.
    """

    plan: DownPlan


async def down(
    run: RunOptions, reporter: Reporter, *, count: int | None = None, target: str | None = None
) -> Undone | Refusal | Failed | LockNotAcquired:
    """Undo the last batch, or the newest `count` revisions, or all after `target`; newest first, under the lock.

    Each is undone together with its row. A failure ends the run; what was undone before it stays undone.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """

    async def work(session: Session) -> Undone | Refusal | Failed:
        plan = plan_down(run.migrations, await read_ledger(session, run.source), steps=count, target=target)
        if isinstance(plan, Refusal):
            return plan
        return await _undo(run, session, plan, reporter)

    return await run_under_lock(run, reporter, work)


async def _undo(run: RunOptions, session: Session, plan: DownPlan, reporter: Reporter) -> Undone | Failed:
    _report_plan(plan, reporter)
    writer = LedgerWriter.for_run(run, batch=0)
    total = len(plan.steps)
    for number, (migration, body) in enumerate(plan.steps, start=1):
        reporter.starting(migration, number, total)
        try:
            with report_notices(session, migration.revision, reporter):
                milliseconds = await executor.undo_migration(session, writer, migration, body, reporter)
        except MigrationFailed as error:
            return Failed(migration, await executor.describe_failure(session, writer, error, body))
        except StatementFailed as error:
            return Failed(migration, str(Section(migration, body, "down").ledger_error(error, writer.name)))
        text = f"undid {migration.revision} in {milliseconds} ms ({number} of {total})"
        fields = {"revision": migration.revision, "duration_ms": milliseconds, "number": number, "total": total}
        reporter.info("undone", text, **fields)
    return Undone(plan)


def _report_plan(plan: DownPlan, reporter: Reporter) -> None:
    for migration, _ in plan.steps:
        contract = (
            f" (a contract migration: with it, images older than {migration.compatible_from} cannot run)"
            if migration.compatible_from
            else ""
        )
        reporter.info("will_undo", f"will undo {migration.revision}{contract}", revision=migration.revision)
