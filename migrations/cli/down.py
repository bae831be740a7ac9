"""`ledgergate migrate down`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_outcome, report_unusable, run_command
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.options import common_options, limit_options

if TYPE_CHECKING:
    from migrations.cli.report import CommandReporter
    from migrations.runner.run import MigrationLimits, RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate down                                # what the last `up` applied",
        "ledgergate migrate down --steps 1                      # the newest one",
        "ledgergate migrate down --to 20250126120000_add_users  # everything after it",
    )
)
@flag("--steps", "How many migrations to undo, the newest first.", type=click.IntRange(min=1), metavar="N")
@flag("--to", "Undo everything that is newer than this revision, which stays.", metavar="REV")
@common_options
@limit_options
def down(
    options: CommonOptions, reporter: CommandReporter, *, steps: int | None, to: str | None, limits: MigrationLimits
) -> int:
    """Undo applied migrations, newest first, under the lock. Without a flag: those of the last `up`.

    Does not ask for confirmation. Undoes nothing when a file is missing or was edited, or has no down section: exits 2
    then, 1 when a migration could not be undone, 4 when the database or the lock could not be reached in time.
    """
    if steps is not None and to is not None:
        return report_unusable(reporter, ValueError("expected --steps or --to, got both; give one"))

    async def work(run: RunOptions) -> int:
        from migrations.runner import down  # noqa: PLC0415 - imports the driver
        from migrations.runner.run import Failed  # noqa: PLC0415

        outcome = await down.down(replace(run, limits=limits), reporter, count=steps, target=run.target)
        if isinstance(outcome, Failed):
            name = outcome.migration.revision
            reporter.error("failed", f"{name} could not be undone. {outcome.reason}", revision=name)
            return Exit.FAILED
        if not isinstance(outcome, down.Undone):
            return report_outcome(reporter, run, outcome)
        count = len(outcome.plan.steps)
        if count:
            reporter.info("done", f"done: undid {count}", undone=count)
        else:
            reporter.info("nothing_to_do", "nothing to undo: no run of ledgergate has applied such a revision")
        return Exit.DONE

    return run_command(options, reporter, work, to=to)
