"""`status` and `verify`: what compares the files with the ledger and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.invocation import Exit, Options, perform

if TYPE_CHECKING:
    from migrations.report import Report
    from migrations.runner import Job


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
