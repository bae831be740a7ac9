"""`status` and `verify`: what compares the files with the ledger and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.flags import command, examples, flag
from migrations.invocation import Exit, Options, perform

if TYPE_CHECKING:
    from migrations.job import Job
    from migrations.report import Report
    from migrations.verification import Verification


@click.command(
    epilog="Examples: `ledgergate migrate status`; `ledgergate migrate status --check && start-the-application`."
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--check", "Exit 3 unless the ledger holds every migration of the directory.", is_flag=True)
@flag("--dialect", "Whose ledger and directory these are, such as knex, or auto; without it, ours.", metavar="NAME")
@command
def status(options: Options, report: Report, *, dialect: str | None, as_json: bool, check: bool) -> int:
    """Show what is applied, pending, missing, changed or dirty, and who holds the lock. Writes nothing."""
    if dialect is not None:
        from migrations.commands import foreign  # noqa: PLC0415 - few ask for another tool's

        return foreign.status(options, report, dialect=dialect, as_json=as_json, check=check)

    async def work(job: Job) -> int:
        from migrations import listing, runner  # noqa: PLC0415 - the driver

        ledger, holder = await runner.look(job)
        at_expected = all(ledger.contains(migration.revision) for migration in job.migrations)
        if as_json:
            click.echo(listing.document(job.migrations, ledger, holder, at_expected=at_expected))
        else:
            listing.show(job.migrations, ledger, holder)
        return Exit.BEHIND if check and not at_expected else Exit.DONE

    return perform(options, report, work)


@click.command(
    epilog=examples(
        "ledgergate migrate verify",
        "ledgergate migrate verify --json | jq '.findings[].message'",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@command
def verify(options: Options, report: Report, *, as_json: bool) -> int:
    """Check the files against the ledger: edited, missing, skipped and half-applied revisions. Writes nothing.

    Exits 3 when something is wrong. Pending revisions are not, nor is a ledger that is ahead of the files.
    """

    async def work(job: Job) -> int:
        from migrations import listing, runner, verification  # noqa: PLC0415 - the driver

        ledger, _ = await runner.look(job)
        verified = verification.verify(job.migrations, ledger)
        if as_json:
            click.echo(listing.verified(verified, ledger))
        else:
            _tell(report, verified)
        return Exit.DONE if verified.ok else Exit.BEHIND

    return perform(options, report, work)


def _tell(report: Report, verified: Verification) -> None:
    for finding in verified.findings:
        tell = report.fail if finding.wrong else report.say
        tell("found", finding.message, kind=finding.kind, revision=finding.revision)
    wrong = sum(finding.wrong for finding in verified.findings)
    text = f"{wrong} wrong" if wrong else "files and ledger agree"
    text += f"; {len(verified.pending)} pending" if verified.pending else ""
    text += f"; the ledger is ahead by {len(verified.ahead)}" if verified.ahead else ""
    report.say("verified", text, wrong=wrong, pending=verified.pending, ahead=verified.ahead)
