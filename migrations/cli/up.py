"""`up` and `down`: what runs migrations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from migrations.cli.exit_codes import Exit
from migrations.cli.invocation import CommonOptions, report_outcome, report_unusable, run_command
from migrations.cli.options import command, flag, format_examples, limit_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.cli.report import CommandReporter
    from migrations.core.plan import UpPlan
    from migrations.runner.run import MigrationLimits, RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate up",
        "ledgergate migrate up --dir db/migrations --to 20250126120000_add_users",
        "ledgergate migrate up --dry-run",
    )
)
@flag("--to", "Last revision to apply; without it, all.", metavar="REV")
@flag("--dry-run", "Print the SQL that would run, as psql takes it, and write nothing.", is_flag=True)
@flag(
    "--allow-out-of-order",
    "Also apply what is older than the head, such as a branch that was merged late.",
    is_flag=True,
)
@command
@limit_options
def up(
    options: CommonOptions,
    report: CommandReporter,
    *,
    to: str | None,
    dry_run: bool,
    allow_out_of_order: bool,
    limits: MigrationLimits,
) -> int:
    """Apply what is pending, in order, under the lock.

    May be started any number of times at once: each migration runs once, and all exit 0. An image that is older than
    the ledger has nothing to do.
    """

    async def work(run: RunOptions) -> int:
        from migrations.runner import up  # noqa: PLC0415 - the driver
        from migrations.runner.run import Done  # noqa: PLC0415

        run = replace(run, out_of_order=allow_out_of_order, limits=limits)
        outcome = await (up.preview(run) if dry_run else up.up(run, report))
        if not isinstance(outcome, Done):
            return report_outcome(report, run, outcome)
        plan = outcome.plan
        if dry_run:
            _print(run, plan)
            return Exit.DONE
        if plan.steps:
            report.info("done", f"done: the ledger is at {plan.steps[-1].revision}", applied=len(plan.steps))
        for event, text, revisions in _remarks(run, plan):
            report.info(event, text, revisions=revisions)
        return Exit.DONE

    return run_command(options, report, work, to=to)


def _print(run: RunOptions, plan: UpPlan) -> None:
    """Write the script to standard output, and all else to standard error."""
    from migrations.runner import psql_script  # noqa: PLC0415 - only here
    from migrations.runner.ledger_writer import LedgerWriter  # noqa: PLC0415

    relation = run.source.dialect.relation(run.source.schema, run.source.table)
    if plan.steps:
        click.echo(psql_script.render(plan, LedgerWriter.for_run(run, plan.batch), relation))
    for _, text, _ in _remarks(run, plan):
        click.echo(text, err=True)


@click.command(
    epilog=format_examples(
        "ledgergate migrate down                                # what the last `up` applied",
        "ledgergate migrate down --steps 1                      # the newest one",
        "ledgergate migrate down --to 20250126120000_add_users  # everything after it",
    )
)
@flag("--steps", "How many to undo, the newest first.", type=click.IntRange(min=1), metavar="N")
@flag("--to", "Undo everything that is newer than this revision, which stays.", metavar="REV")
@command
@limit_options
def down(
    options: CommonOptions, report: CommandReporter, *, steps: int | None, to: str | None, limits: MigrationLimits
) -> int:
    """Undo what is applied, newest first, under the lock; without a flag, what the last `up` applied.

    Asks nothing. Refuses before it begins when a file is missing or changed, or does not say how it is undone.
    """
    if steps is not None and to is not None:
        return report_unusable(report, ValueError("expected --steps or --to, got both; give one"))

    async def work(run: RunOptions) -> int:
        from migrations.runner import down  # noqa: PLC0415 - the driver
        from migrations.runner.run import Failed  # noqa: PLC0415

        outcome = await down.down(replace(run, limits=limits), report, count=steps, target=run.target)
        if isinstance(outcome, Failed):
            name = outcome.migration.revision
            report.error("failed", f"{name} could not be undone. {outcome.reason}", revision=name)
            return Exit.FAILED
        if not isinstance(outcome, down.Undone):
            return report_outcome(report, run, outcome)
        count = len(outcome.plan.steps)
        if count:
            report.info("done", f"done: undid {count}", undone=count)
        else:
            report.info("nothing_to_do", "nothing to undo: no such revision is applied by a run of ours")
        return Exit.DONE

    return run_command(options, report, work, to=to)


def _remarks(run: RunOptions, plan: UpPlan) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Give what else is to be said: the event, its text, and the revisions that it is about."""
    if plan.missing:
        yield "missing", f"applied, but without a file: {', '.join(plan.missing)}", plan.missing
    if plan.steps:
        return
    if plan.ahead:
        newer = ", ".join(plan.ahead)
        yield "ahead", f"nothing to do: the ledger is ahead of these files; newer: {newer}", plan.ahead
    elif not run.migrations:
        yield "nothing_to_do", "nothing to do: the directory holds no migration", ()
    else:
        head = run.target or run.migrations[-1].revision
        yield "nothing_to_do", f"nothing to do: the ledger holds every migration up to {head}", (head,)
