"""`ledgergate migrate up`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_outcome, run_command
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.options import CONTRACT_PHASE, common_options, limit_options, phase_flag

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.cli.report import CommandReporter
    from migrations.core.plan import UpPlan
    from migrations.runner.run import Done, MigrationLimits, RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate up",
        "ledgergate migrate up --dir db/migrations --to 20250126120000_add_users",
        "ledgergate migrate up --phase expand && roll-out && ledgergate migrate up",
        "ledgergate migrate up --dry-run",
    )
)
@flag("--to", "Last revision to apply. Without it: all.", metavar="REV")
@phase_flag(
    "expand: stop before the contract migrations at the end of the directory, which break older images that still run. "
    "contract: apply them too.",
    default=CONTRACT_PHASE,
)
@flag("--dry-run", "Print the SQL that would run, as a script for psql, and change nothing.", is_flag=True)
@flag(
    "--allow-out-of-order",
    "Also apply migrations that are older than the head, such as those of a branch that was merged late.",
    is_flag=True,
)
@common_options
@limit_options
def up(
    options: CommonOptions,
    reporter: CommandReporter,
    *,
    to: str | None,
    phase: str,
    dry_run: bool,
    allow_out_of_order: bool,
    limits: MigrationLimits,
) -> int:
    """Apply the pending migrations, in order, under the lock.

    Any number of processes may run it at once: each migration is applied once, and all of them exit 0. An image that is
    older than the ledger has nothing to do. Exits 1 when a migration failed, 2 when the files cannot be applied to this
    ledger, 4 when the database or the lock could not be reached in time.
    """

    async def work(run: RunOptions) -> int:
        from migrations.runner import up  # noqa: PLC0415 - imports the driver
        from migrations.runner.run import Done  # noqa: PLC0415

        run = replace(run, out_of_order=allow_out_of_order, expand_only=phase != CONTRACT_PHASE, limits=limits)
        outcome = await (up.preview(run) if dry_run else up.up(run, reporter))
        if not isinstance(outcome, Done):
            return report_outcome(reporter, run, outcome)
        plan = outcome.plan
        if dry_run:
            return _print_script(run, outcome, reporter)
        if plan.steps:
            reporter.info("done", f"done: the ledger is at {plan.steps[-1].revision}", applied=len(plan.steps))
        for event, text, revisions in _remarks(run, plan):
            reporter.info(event, text, revisions=revisions)
        return Exit.DONE

    return run_command(options, reporter, work, to=to)


def _print_role(role: str) -> None:
    """Write psql's command that connects once more, with the role as a parameter, so that a reset keeps it."""
    value = role.replace("\\", r"\\").replace(" ", "\\ ")
    options = f"-c role={value}".replace("\\", r"\\").replace("'", r"\'")
    click.echo("\\connect -reuse-previous=on \"options='{}'\"".format(options.replace('"', '""')))


def _print_script(run: RunOptions, done: Done, reporter: CommandReporter) -> int:
    """Write the script to standard output, and remarks to standard error."""
    from migrations.runner import psql_script  # noqa: PLC0415 - only --dry-run needs it
    from migrations.runner.ledger_writer import LedgerWriter  # noqa: PLC0415
    from migrations.runner.section import MigrationFailed  # noqa: PLC0415

    try:
        script = psql_script.render(done.plan, LedgerWriter.for_run(run, done.plan.batch), done.preparation)
    except MigrationFailed as error:
        reporter.error("failed", f"up would fail, so there is no script. {error}")
        return Exit.FAILED
    if script and run.source.address.role:
        _print_role(run.source.address.role)
    if script:
        # In UTF-8, as the script says, whatever the locale. A path may have bytes that are not.
        click.echo(script.encode(errors="backslashreplace"))
    for _, text, _ in _remarks(run, done.plan):
        click.echo(text, err=True)
    return Exit.DONE


def _remarks(run: RunOptions, plan: UpPlan) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield what else the user should know: the event, its text, and the revisions it is about."""
    if plan.missing:
        yield "missing", f"applied, but without a file: {', '.join(plan.missing)}", plan.missing
    if plan.line_ends:
        files = ", ".join(plan.line_ends)
        text = f"accepted, although their line ends (LF or CRLF) are not those that were applied: {files}"
        yield "line_ends", text, plan.line_ends
    for migration in plan.steps:
        if unknown := [*migration.up.unknown, *(migration.down.unknown if migration.down else ())]:
            text = f"{migration.path}: left out are the options {', '.join(unknown)}, which ledgergate does not have"
            yield "unknown_options", text, (migration.revision,)
    yield from _phase_remarks(run, plan)
    if plan.steps:
        return
    if plan.ahead:
        newer = ", ".join(plan.ahead)
        yield "ahead", f"nothing to do: the ledger is ahead of these files; newer: {newer}", plan.ahead
    elif not run.migrations:
        yield "nothing_to_do", "nothing to do: the directory holds no migration", ()
    else:
        end = run.migrations.index(plan.left[0]) if plan.left else len(run.migrations)
        head = run.target or run.migrations[end - 1].revision
        yield "nothing_to_do", f"nothing to do: the ledger holds every migration up to {head}", (head,)


def _phase_remarks(run: RunOptions, plan: UpPlan) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield which contract migrations an expand phase includes because images need them, and which it leaves."""
    if not run.expand_only:
        return
    from migrations.core.contract import describe_contracts, describe_left  # noqa: PLC0415 - `up` without --phase does without

    if included := [migration for migration in plan.steps if migration.compatible_from is not None]:
        text = f"part of the expand phase, because the image needs them: {describe_contracts(included)}"
        yield "contract_included", text, [migration.revision for migration in included]
    if plan.left:
        yield "contract_left", describe_left(plan.left), [migration.revision for migration in plan.left]
