"""`up` and `down`: what runs migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.invocation import Exit, Options, perform, unsuccessful

if TYPE_CHECKING:
    from migrations.plan import Plan
    from migrations.report import Report
    from migrations.runner import Job


def up(options: Options, report: Report, *, to: str | None, dry_run: bool) -> int:
    """Apply what is pending, or say what that would be."""

    async def work(job: Job) -> int:
        from migrations import runner  # noqa: PLC0415 - the driver

        outcome = await (runner.preview(job) if dry_run else runner.up(job, report))
        if isinstance(outcome, runner.Done):
            _done(report, job, outcome.plan, dry_run=dry_run)
            return Exit.DONE
        return unsuccessful(report, job, outcome)

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
