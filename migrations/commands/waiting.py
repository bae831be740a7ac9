"""`wait`: blocks until the ledger holds a revision."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from migrations.commands.foreign import find_dialect, known
from migrations.files import FilesError
from migrations.inventory import InventoryError
from migrations.invocation import Exit, Options, perform, unusable
from migrations.revision import Revision, RevisionError

if TYPE_CHECKING:
    from migrations.report import Report
    from migrations.runner import Job


def wait(options: Options, report: Report, *, revision: str | None, dialect: str | None, timeout: float) -> int:
    """Wait for a revision, or for all of the directory; with a revision, no directory is needed."""
    try:
        written_in = find_dialect(dialect)
        names = known(written_in, options.directory, needed=revision is None)
        expected = Revision.parse(revision) if revision else written_in.declare(names)
    except (FilesError, InventoryError, RevisionError, LookupError) as error:
        return unusable(report, error)

    async def work(job: Job) -> int:
        from migrations import awaiting  # noqa: PLC0415 - the driver

        job = replace(job, source=replace(job.source, dialect=written_in))
        outcome = await awaiting.arrival(job, expected, report, limit=timeout, names=names)
        if outcome is None:
            report.say("arrived", f"the ledger holds {expected.name}", revision=expected.name)
            return Exit.DONE
        report.fail("timed_out", f"gave up after {timeout:g} s: {outcome.text}", revision=expected.name)
        return Exit.UNREACHABLE if outcome.unreachable else Exit.BEHIND

    return perform(options, report, work, files=False)
