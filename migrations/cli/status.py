"""`status` and `verify`: what compares the files with the ledger and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.cli.exit_codes import Exit
from migrations.cli.invocation import CommonOptions, run_command
from migrations.cli.options import command, flag, format_examples

if TYPE_CHECKING:
    from migrations.cli.report import CommandReporter
    from migrations.core.drift import Verification
    from migrations.runner.run import RunOptions


@click.command(
    epilog="Examples: `ledgergate migrate status`; `ledgergate migrate status --check && start-the-application`."
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--check", "Exit 3 unless the ledger holds every migration of the directory.", is_flag=True)
@flag("--dialect", "Whose ledger and directory these are, such as knex, or auto; without it, ours.", metavar="NAME")
@command
def status(options: CommonOptions, report: CommandReporter, *, dialect: str | None, as_json: bool, check: bool) -> int:
    """Show what is applied, pending, missing, changed or dirty, and who holds the lock. Writes nothing."""
    if dialect is not None:
        from migrations.cli import foreign  # noqa: PLC0415 - few ask for another tool's

        return foreign.status(options, report, dialect=dialect, as_json=as_json, check=check)

    async def work(run: RunOptions) -> int:
        from migrations.cli import tables  # noqa: PLC0415 - the driver
        from migrations.runner import status  # noqa: PLC0415 - the driver

        ledger, holder = await status.read_native(run)
        at_expected = all(ledger.contains(migration.revision) for migration in run.migrations)
        if as_json:
            click.echo(tables.document(run.migrations, ledger, holder, at_expected=at_expected))
        else:
            tables.show(run.migrations, ledger, holder)
        return Exit.BEHIND if check and not at_expected else Exit.DONE

    return run_command(options, report, work)


@click.command(
    epilog=format_examples(
        "ledgergate migrate verify",
        "ledgergate migrate verify --json | jq '.findings[].message'",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@command
def verify(options: CommonOptions, report: CommandReporter, *, as_json: bool) -> int:
    """Check the files against the ledger: edited, missing, skipped and half-applied revisions. Writes nothing.

    Exits 3 when something is wrong. Pending revisions are not, nor is a ledger that is ahead of the files.
    """

    async def work(run: RunOptions) -> int:
        from migrations.cli import tables  # noqa: PLC0415 - the driver
        from migrations.core import drift  # noqa: PLC0415 - the driver
        from migrations.runner import status  # noqa: PLC0415 - the driver

        ledger, _ = await status.read_native(run)
        verified = drift.verify(run.migrations, ledger)
        if as_json:
            click.echo(tables.verified(verified, ledger))
        else:
            _tell(report, verified)
        return Exit.DONE if verified.ok else Exit.BEHIND

    return run_command(options, report, work)


def _tell(report: CommandReporter, verified: Verification) -> None:
    for finding in verified.drifts:
        tell = report.error if finding.is_problem else report.info
        tell("found", finding.message, kind=finding.kind, revision=finding.revision)
    wrong = sum(finding.is_problem for finding in verified.drifts)
    text = f"{wrong} wrong" if wrong else "files and ledger agree"
    text += f"; {len(verified.pending)} pending" if verified.pending else ""
    text += f"; the ledger is ahead by {len(verified.ahead)}" if verified.ahead else ""
    report.info("verified", text, wrong=wrong, pending=verified.pending, ahead=verified.ahead)
