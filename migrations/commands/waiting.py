"""`wait`: blocks until the ledger holds a revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.invocation import Exit, Options, perform
from migrations.revision import Revision, declare

if TYPE_CHECKING:
    from migrations.report import Report
    from migrations.runner import Job


def wait(options: Options, report: Report, *, revision: str | None, timeout: float) -> int:
    """Wait for a revision, or for all of the directory; with a revision, no directory is needed."""

    async def work(job: Job) -> int:
        from migrations import awaiting  # noqa: PLC0415 - the driver

        names = [migration.revision for migration in job.migrations]
        expected = Revision.parse(revision) if revision else declare(names)
        outcome = await awaiting.arrival(job, expected, report, limit=timeout)
        if outcome is None:
            report.say("arrived", f"the ledger holds {expected.name}", revision=expected.name)
            return Exit.DONE
        report.fail("timed_out", f"gave up after {timeout:g} s: {outcome.text}", revision=expected.name)
        return Exit.UNREACHABLE if outcome.unreachable else Exit.BEHIND

    return perform(options, report, work, files=revision is None or options.directory.is_dir())
