"""`ledgergate migrate wait`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_unusable, run_command
from migrations.cli.conventions import SECONDS, Exit, flag, format_examples
from migrations.cli.directory import extension_flag, list_phase, select_dialect
from migrations.cli.options import common_options, phase_flag
from migrations.core.migration import FilesError
from migrations.core.revision import Revision, RevisionError
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.cli.report import CommandReporter
    from migrations.runner.run import RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate wait && start-the-application",
        "ledgergate migrate wait --revision 20250126120000_add_users --timeout 120",
        'ledgergate migrate wait --revision "$EXPECTED_REVISION"',
    )
)
@flag("--revision", "Revision to wait for, as NAME or NAME+COUNT.DIGEST. Without it: that of --dir.", metavar="REV")
@phase_flag(
    "Without --revision. expand: wait for what an image with --dir needs, which is all but the contract migrations at "
    "its end. contract: for all of --dir."
)
@flag("--dialect", "Tool whose ledger and directory these are, such as knex. Without it: ledgergate.", metavar="NAME")
@flag("--timeout", "How long to wait.", type=SECONDS, default="10m", show_default=True, metavar="DURATION")
@extension_flag
@common_options
def wait(
    options: CommonOptions,
    reporter: CommandReporter,
    *,
    revision: str | None,
    phase: str,
    dialect: str | None,
    extensions: Sequence[str],
    timeout: float,
) -> int:
    """Wait until the ledger holds a revision and all that must come before it. Writes nothing.

    The database may be down for a while, or not be there yet. Exits 3 when the time is up, 4 when the database did not
    answer at that time, 2 when the table is no ledger that can be read.
    """
    try:
        selected = select_dialect(dialect)
        names = list_phase(selected, options.directories, extensions, phase=phase, required=revision is None)
        expected = Revision.parse(revision) if revision else selected.declare(names)
    except (FilesError, ExternalFilesError, RevisionError, LookupError) as error:
        return report_unusable(reporter, error)

    async def work(run: RunOptions) -> int:
        from migrations.runner import wait  # noqa: PLC0415 - imports the driver

        run = replace(run, source=replace(run.source, dialect=selected))
        outcome = await wait.wait_for_revision(run, expected, reporter, limit=timeout, names=names)
        if outcome is None:
            reporter.info("arrived", f"the ledger holds {expected.name}", revision=expected.name)
            return Exit.DONE
        reporter.error("timed_out", f"gave up after {timeout:g} s: {outcome.text}", revision=expected.name)
        if outcome.no_ledger:
            return Exit.USAGE
        return Exit.UNREACHABLE if outcome.unreachable else Exit.BEHIND

    return run_command(options, reporter, work, files=False)
