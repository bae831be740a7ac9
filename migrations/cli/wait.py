"""`wait`: blocks until the ledger holds a revision."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from migrations.cli.exit_codes import Exit
from migrations.cli.foreign import find_dialect, known
from migrations.cli.invocation import CommonOptions, report_unusable, run_command
from migrations.cli.options import SECONDS, command, flag, format_examples
from migrations.core.migration import FilesError
from migrations.core.revision import Revision, RevisionError
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from migrations.cli.report import CommandReporter
    from migrations.runner.run import RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate wait && start-the-application",
        "ledgergate migrate wait --revision 20250126120000_add_users --timeout 120",
        'ledgergate migrate wait --revision "$EXPECTED_REVISION"',
    )
)
@flag("--revision", "What to wait for, as NAME or NAME+COUNT.DIGEST; without it, all of --dir.", metavar="REV")
@flag("--dialect", "Whose ledger and directory these are, such as knex; without it, ours.", metavar="NAME")
@flag("--timeout", "How long to wait.", type=SECONDS, default=600.0, show_default=True, metavar="SECONDS")
@command
def wait(
    options: CommonOptions, report: CommandReporter, *, revision: str | None, dialect: str | None, timeout: float
) -> int:
    """Wait until the ledger holds a revision, and all that must have come before it. Writes nothing.

    The database may be down meanwhile, or not be there yet. Exits 3 when the time is up, 4 when the database did not
    answer then.
    """
    try:
        written_in = find_dialect(dialect)
        names = known(written_in, options.directory, needed=revision is None)
        expected = Revision.parse(revision) if revision else written_in.declare(names)
    except (FilesError, ExternalFilesError, RevisionError, LookupError) as error:
        return report_unusable(report, error)

    async def work(run: RunOptions) -> int:
        from migrations.runner import wait  # noqa: PLC0415 - the driver

        run = replace(run, source=replace(run.source, dialect=written_in))
        outcome = await wait.wait_for_revision(run, expected, report, limit=timeout, names=names)
        if outcome is None:
            report.info("arrived", f"the ledger holds {expected.name}", revision=expected.name)
            return Exit.DONE
        report.error("timed_out", f"gave up after {timeout:g} s: {outcome.text}", revision=expected.name)
        return Exit.UNREACHABLE if outcome.unreachable else Exit.BEHIND

    return run_command(options, report, work, files=False)
