"""`up` and `down`: what runs migrations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from migrations.invocation import Exit, Options, perform, unsuccessful, unusable

if TYPE_CHECKING:
    from migrations.plan import Plan
    from migrations.report import Report
    from migrations.runner import Job


def up(options: Options, report: Report, *, to: str | None, dry_run: bool, allow_out_of_order: bool) -> int:
    """Apply what is pending, or say what that would be."""

    async def work(job: Job) -> int:
        from migrations import runner  # noqa: PLC0415 - the driver

        job = replace(job, out_of_order=allow_out_of_order)
        outcome = await (runner.preview(job) if dry_run else runner.up(job, report))
        if isinstance(outcome, runner.Done):
            _done(report, job, outcome.plan, dry_run=dry_run)
            return Exit.DONE
        return unsuccessful(report, job, outcome)

    return perform(options, report, work, to=to)


def down(options: Options, report: Report, *, steps: int | None, to: str | None) -> int:
    """Undo what was applied: the last batch, or as many or as far as said."""
    if steps is not None and to is not None:
        return unusable(report, ValueError("expected --steps or --to, got both; give one"))

    async def work(job: Job) -> int:
        from migrations import undoing  # noqa: PLC0415 - the driver

        outcome = await undoing.down(job, report, count=steps, target=job.target)
        if not isinstance(outcome, undoing.Undone):
            return unsuccessful(report, job, outcome)
        count = len(outcome.undo.steps)
        if count:
            report.say("done", f"done: undid {count}", undone=count)
        else:
            report.say("nothing_to_do", "nothing to undo: no such revision is applied by a run of ours")
        return Exit.DONE

    return perform(options, report, work, to=to)


def _done(report: Report, job: Job, plan: Plan, *, dry_run: bool) -> None:
    if plan.missing:
        report.say("missing", f"applied, but without a file: {', '.join(plan.missing)}", revisions=plan.missing)
    if dry_run:
        for step in plan.steps:
            report.say("would_apply", f"would apply {step.revision}", revision=step.revision)
    elif plan.steps:
        report.say("done", f"done: the ledger is at {plan.steps[-1].revision}", applied=len(plan.steps))
    if plan.steps:
        return
    if plan.ahead:
        newer = ", ".join(plan.ahead)
        report.say("ahead", f"nothing to do: the ledger is ahead of these files; newer: {newer}", revisions=plan.ahead)
    elif not job.migrations:
        report.say("nothing_to_do", "nothing to do: the directory holds no migration")
    else:
        head = job.target or job.migrations[-1].revision
        report.say("nothing_to_do", f"nothing to do: the ledger holds every migration up to {head}", head=head)
