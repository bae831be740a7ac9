"""`up` and `down`: what runs migrations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from migrations.flags import command, examples, flag, limits
from migrations.invocation import Exit, Options, perform, unsuccessful, unusable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.job import Job
    from migrations.limits import Limits
    from migrations.plan import Plan
    from migrations.report import Report


@click.command(
    epilog=examples(
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
@limits
def up(
    options: Options, report: Report, *, to: str | None, dry_run: bool, allow_out_of_order: bool, limits: Limits
) -> int:
    """Apply what is pending, in order, under the lock.

    May be started any number of times at once: each migration runs once, and all exit 0. An image that is older than
    the ledger has nothing to do.
    """

    async def work(job: Job) -> int:
        from migrations import runner  # noqa: PLC0415 - the driver
        from migrations.job import Done  # noqa: PLC0415

        job = replace(job, out_of_order=allow_out_of_order, limits=limits)
        outcome = await (runner.preview(job) if dry_run else runner.up(job, report))
        if not isinstance(outcome, Done):
            return unsuccessful(report, job, outcome)
        plan = outcome.plan
        if dry_run:
            _print(job, plan)
            return Exit.DONE
        if plan.steps:
            report.say("done", f"done: the ledger is at {plan.steps[-1].revision}", applied=len(plan.steps))
        for event, text, revisions in _remarks(job, plan):
            report.say(event, text, revisions=revisions)
        return Exit.DONE

    return perform(options, report, work, to=to)


def _print(job: Job, plan: Plan) -> None:
    """Write the script to standard output, and all else to standard error."""
    from migrations import script  # noqa: PLC0415 - only here
    from migrations.book import book_of  # noqa: PLC0415

    relation = job.source.dialect.relation(job.source.schema, job.source.table)
    if plan.steps:
        click.echo(script.script(plan, book_of(job, plan.batch), relation))
    for _, text, _ in _remarks(job, plan):
        click.echo(text, err=True)


@click.command(
    epilog=examples(
        "ledgergate migrate down                                # what the last `up` applied",
        "ledgergate migrate down --steps 1                      # the newest one",
        "ledgergate migrate down --to 20250126120000_add_users  # everything after it",
    )
)
@flag("--steps", "How many to undo, the newest first.", type=click.IntRange(min=1), metavar="N")
@flag("--to", "Undo everything that is newer than this revision, which stays.", metavar="REV")
@command
@limits
def down(options: Options, report: Report, *, steps: int | None, to: str | None, limits: Limits) -> int:
    """Undo what is applied, newest first, under the lock; without a flag, what the last `up` applied.

    Asks nothing. Refuses before it begins when a file is missing or changed, or does not say how it is undone.
    """
    if steps is not None and to is not None:
        return unusable(report, ValueError("expected --steps or --to, got both; give one"))

    async def work(job: Job) -> int:
        from migrations import undoing  # noqa: PLC0415 - the driver
        from migrations.job import Failed  # noqa: PLC0415

        outcome = await undoing.down(replace(job, limits=limits), report, count=steps, target=job.target)
        if isinstance(outcome, Failed):
            name = outcome.migration.revision
            report.fail("failed", f"{name} could not be undone. {outcome.reason}", revision=name)
            return Exit.FAILED
        if not isinstance(outcome, undoing.Undone):
            return unsuccessful(report, job, outcome)
        count = len(outcome.undo.steps)
        if count:
            report.say("done", f"done: undid {count}", undone=count)
        else:
            report.say("nothing_to_do", "nothing to undo: no such revision is applied by a run of ours")
        return Exit.DONE

    return perform(options, report, work, to=to)


def _remarks(job: Job, plan: Plan) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Give what else is to be said: the event, its text, and the revisions that it is about."""
    if plan.missing:
        yield "missing", f"applied, but without a file: {', '.join(plan.missing)}", plan.missing
    if plan.steps:
        return
    if plan.ahead:
        newer = ", ".join(plan.ahead)
        yield "ahead", f"nothing to do: the ledger is ahead of these files; newer: {newer}", plan.ahead
    elif not job.migrations:
        yield "nothing_to_do", "nothing to do: the directory holds no migration", ()
    else:
        head = job.target or job.migrations[-1].revision
        yield "nothing_to_do", f"nothing to do: the ledger holds every migration up to {head}", (head,)
