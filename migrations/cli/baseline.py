"""`baseline` and `resolve`: what corrects the ledger and leaves the rest of the database alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from migrations.cli.exit_codes import Exit
from migrations.cli.foreign import find_dialect
from migrations.cli.invocation import CommonOptions, report_outcome, report_unusable, run_command
from migrations.cli.options import command, flag, format_examples
from migrations.core.ledger import State
from migrations.core.revision import Revision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.cli.report import CommandReporter
    from migrations.runner.run import RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate baseline                                 # all files describe the database as it is",
        "ledgergate migrate baseline --to 20250126120000_add_users  # the newer ones are still to be applied",
        "ledgergate migrate baseline --from knex                      # those that Knex has applied",
    )
)
@flag("--to", "Last revision to record; without it, all.", metavar="REV")
@flag("--from", "Take over what another tool's ledger says, such as knex's.", "from_dialect", metavar="DIALECT")
@flag("--from-table", "Where that ledger is, when not where its tool puts it.", metavar="[SCHEMA.]TABLE")
@command
def baseline(
    options: CommonOptions, report: CommandReporter, *, to: str | None, from_dialect: str | None, from_table: str | None
) -> int:
    """Record revisions as applied without running them, for a database that was made by other means.

    Refuses to fill a ledger that is in use unless --to says how far.
    """
    if from_dialect is not None:
        return _adopt(options, report, to, from_dialect, from_table)
    if from_table is not None:
        return report_unusable(
            report, ValueError("expected --from-table with --from, which names the tool whose table it is")
        )

    async def work(run: RunOptions) -> int:
        from migrations.core.plan import BaselinePlan  # noqa: PLC0415
        from migrations.runner import baseline  # noqa: PLC0415 - the driver

        outcome = await baseline.baseline(run, report)
        if not isinstance(outcome, BaselinePlan):
            return report_outcome(report, run, outcome)
        _tell(report, [migration.revision for migration in outcome.steps])
        return Exit.DONE

    return run_command(options, report, work, to=to)


def _adopt(
    options: CommonOptions, report: CommandReporter, to: str | None, from_dialect: str, from_table: str | None
) -> int:
    try:
        dialect = find_dialect(from_dialect)
    except LookupError as error:
        return report_unusable(report, error)
    if dialect.name == "ledgergate":
        return report_unusable(report, ValueError("expected --from to name another tool's ledger, got our own"))
    schema, _, table = (from_table or "").rpartition(".")

    async def work(run: RunOptions) -> int:
        from migrations.core.adoption import AdoptionPlan, Mismatch  # noqa: PLC0415
        from migrations.runner import baseline  # noqa: PLC0415 - the driver

        theirs = replace(run.source, dialect=dialect, schema=schema or None, table=table or None)
        outcome = await baseline.adopt(run, theirs, report)
        if isinstance(outcome, Mismatch):
            for problem in outcome.problems:
                report.error("mismatch", problem)
            return Exit.USAGE
        if not isinstance(outcome, AdoptionPlan):
            return report_outcome(report, run, outcome)
        _tell(report, [migration.revision for migration, _ in outcome.steps])
        if outcome.pending:
            text = (
                f"{len(outcome.pending)} pending, which `ledgergate migrate up` applies: {', '.join(outcome.pending)}"
            )
            report.info("pending", text, pending=outcome.pending)
        return Exit.DONE

    return run_command(options, report, work, to=to)


def _tell(report: CommandReporter, recorded: Sequence[str]) -> None:
    for name in recorded:
        report.info("recorded", f"recorded {name}, which was not run", revision=name)
    if recorded:
        report.info("done", f"done: recorded {len(recorded)} as applied", recorded=len(recorded))
    else:
        report.info("nothing_to_do", "nothing to do: the ledger holds all of it")


@click.command(
    epilog=format_examples(
        "ledgergate migrate resolve 20250126120000_add_index --applied      # you completed it by hand",
        "ledgergate migrate resolve 20250126120000_add_index --rolled-back  # you undid it by hand",
    )
)
@click.argument("revision", metavar="REV")
@flag("--applied", "Its effects are in the database now, all of them.", is_flag=True)
@flag("--rolled-back", "None of its effects is in the database (any more).", is_flag=True)
@command
def resolve(options: CommonOptions, report: CommandReporter, *, revision: str, applied: bool, rolled_back: bool) -> int:
    """Settle a revision that failed, or whose run was killed, after you have put the database in order by hand.

    Refuses while its run is alive. The database itself is not touched.
    """
    if applied is rolled_back:
        given = "both" if applied else "neither"
        return report_unusable(report, ValueError(f"expected one of --applied and --rolled-back, got {given}"))

    async def work(run: RunOptions) -> int:
        from migrations.runner import resolve as resolving  # noqa: PLC0415 - the driver

        name = Revision.parse(revision).name
        outcome = await resolving.resolve(run, report, name, State.APPLIED if applied else None)
        match outcome:
            case resolving.Resolved(changed, checksum_renewed):
                is_now = "applied" if applied else "not applied"
                text = f"{name} is recorded as {is_now}{'' if changed else ' already'}"
                text += ", with the checksum of the file as it is now" if checksum_renewed else ""
                report.info("settled", text, revision=name, state=is_now, changed=changed)
                return Exit.DONE
            case resolving.NotDirty(reason):
                return report_unusable(report, ValueError(reason))
            case _:
                who = str(outcome.holder) if outcome.holder else "sessions that come and go"
                report.error(
                    "still_running", f"the run of {name} may be alive: {who} holds the lock; wait for it or end it"
                )
                return Exit.UNREACHABLE

    return run_command(options, report, work, files=options.directory.is_dir())
