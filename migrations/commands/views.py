"""`status` and `verify`: what compares the files with the ledger and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.invocation import Exit, Options, perform

if TYPE_CHECKING:
    from migrations.report import Report
    from migrations.runner import Job
    from migrations.verification import Verification


def status(options: Options, report: Report, *, as_json: bool, check: bool) -> int:
    """Show how every revision stands, and who holds the lock."""

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


def verify(options: Options, report: Report, *, as_json: bool) -> int:
    """Say what is wrong between the files and the ledger."""

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
