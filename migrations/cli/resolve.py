"""`ledgergate migrate resolve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, describe_holder, report_unusable, run_command
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.options import common_options
from migrations.core.ledger import State
from migrations.core.revision import Revision

if TYPE_CHECKING:
    from migrations.cli.report import CommandReporter
    from migrations.runner.run import RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate resolve 20250126120000_add_index --applied      # you completed it by hand",
        "ledgergate migrate resolve 20250126120000_add_index --rolled-back  # you undid it by hand",
    )
)
@click.argument("revision", metavar="REV")
@flag("--applied", "All of its effects are in the database now.", is_flag=True)
@flag("--rolled-back", "None of its effects is in the database now.", is_flag=True)
@common_options
def resolve(
    options: CommonOptions, reporter: CommandReporter, *, revision: str, applied: bool, rolled_back: bool
) -> int:
    """Settle a revision that failed, or whose run was killed, after you have corrected the database by hand.

    Changes only the ledger. Exits 2 when the revision is not dirty, 4 while its run may be alive, or when the database
    could not be reached.
    """
    if applied is rolled_back:
        given = "both" if applied else "neither"
        return report_unusable(reporter, ValueError(f"expected one of --applied and --rolled-back, got {given}"))

    async def work(run: RunOptions) -> int:
        from migrations.runner.resolve import NotDirty, Resolved, resolve  # noqa: PLC0415 - imports the driver

        name = Revision.parse(revision).name
        outcome = await resolve(run, reporter, name, State.APPLIED if applied else None)
        match outcome:
            case Resolved(changed, checksum_renewed):
                is_now = "applied" if applied else "not applied"
                text = f"{name} is recorded as {is_now}{'' if changed else ' already'}"
                text += ", with the checksum of the file as it is now" if checksum_renewed else ""
                reporter.info("settled", text, revision=name, state=is_now, changed=changed)
                return Exit.DONE
            case NotDirty(reason):
                return report_unusable(reporter, ValueError(reason))
            case _:
                held_by = f"the lock is held by {describe_holder(outcome.holder)}"
                text = f"the run of {name} may be alive: {held_by}; wait until it ends, or end it"
                reporter.error("still_running", text)
                return Exit.UNREACHABLE

    return run_command(options, reporter, work, files=options.directory.is_dir())
