"""`ledgergate migrate baseline`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_outcome, report_unusable, run_command
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.directory import select_dialect
from migrations.cli.options import common_options

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
@flag("--to", "Last revision to record. Without it: all.", metavar="REV")
@flag(
    "--from",
    "Record the revisions that another tool's ledger has applied, such as knex.",
    "from_dialect",
    metavar="DIALECT",
)
@flag("--from-table", "Table of that ledger. Without it: where the tool puts it.", metavar="[SCHEMA.]TABLE")
@common_options
def baseline(
    options: CommonOptions,
    reporter: CommandReporter,
    *,
    to: str | None,
    from_dialect: str | None,
    from_table: str | None,
) -> int:
    """Record revisions as applied without running them, for a database that already has what they do.

    A ledger that is in use is filled only with --to. Exits 2 when the files do not fit the ledger, 4 when the database
    or the lock could not be reached in time.
    """
    if from_dialect is not None:
        return _adopt(options, reporter, to, from_dialect, from_table)
    if from_table is not None:
        return report_unusable(
            reporter, ValueError("expected --from with --from-table, to name the tool whose table it is")
        )

    async def work(run: RunOptions) -> int:
        from migrations.core.baseline_plan import BaselinePlan  # noqa: PLC0415
        from migrations.runner import baseline  # noqa: PLC0415 - imports the driver

        outcome = await baseline.baseline(run, reporter)
        if not isinstance(outcome, BaselinePlan):
            return report_outcome(reporter, run, outcome)
        _report_recorded(reporter, [migration.revision for migration in outcome.steps])
        return Exit.DONE

    return run_command(options, reporter, work, to=to)


def _adopt(
    options: CommonOptions, reporter: CommandReporter, to: str | None, from_dialect: str, from_table: str | None
) -> int:
    try:
        dialect = select_dialect(from_dialect)
    except LookupError as error:
        return report_unusable(reporter, error)
    if dialect.name == "ledgergate":
        return report_unusable(reporter, ValueError("expected --from with another tool than ledgergate"))
    schema, _, table = (from_table or "").rpartition(".")

    async def work(run: RunOptions) -> int:
        from migrations.core.adoption import AdoptionPlan, Mismatch  # noqa: PLC0415
        from migrations.runner import baseline  # noqa: PLC0415 - imports the driver

        other = replace(run.source, dialect=dialect, schema=schema or None, table=table or None)
        outcome = await baseline.adopt(run, other, reporter)
        if isinstance(outcome, Mismatch):
            for problem in outcome.problems:
                reporter.error("mismatch", problem)
            return Exit.USAGE
        if not isinstance(outcome, AdoptionPlan):
            return report_outcome(reporter, run, outcome)
        _report_recorded(reporter, [migration.revision for migration, _ in outcome.steps])
        if outcome.pending:
            names = ", ".join(outcome.pending)
            text = f"{len(outcome.pending)} pending, which `ledgergate migrate up` applies: {names}"
            reporter.info("pending", text, pending=outcome.pending)
        return Exit.DONE

    return run_command(options, reporter, work, to=to)


def _report_recorded(reporter: CommandReporter, recorded: Sequence[str]) -> None:
    for name in recorded:
        reporter.info("recorded", f"recorded {name}, which was not run", revision=name)
    if recorded:
        reporter.info("done", f"done: recorded {len(recorded)} as applied", recorded=len(recorded))
    else:
        reporter.info("nothing_to_do", "nothing to do: the ledger holds all of these revisions")
