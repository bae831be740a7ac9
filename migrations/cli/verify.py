"""`ledgergate migrate verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, run_command
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.options import common_options

if TYPE_CHECKING:
    from migrations.cli.report import CommandReporter
    from migrations.core.drift import Verification
    from migrations.core.ledger import Ledger
    from migrations.runner.run import RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate verify",
        "ledgergate migrate verify --json | jq '.findings[].message'",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@common_options
def verify(options: CommonOptions, reporter: CommandReporter, *, as_json: bool) -> int:
    """Check the files against the ledger: edited, missing, skipped and half-applied revisions. Writes nothing.

    Exits 3 when something is wrong. Pending revisions are not wrong, nor is a ledger that is ahead of the files.
    """

    async def work(run: RunOptions) -> int:
        from migrations.core import drift  # noqa: PLC0415 - only `status` and `verify` need it
        from migrations.reader.status import read_status  # noqa: PLC0415 - imports the driver
        from migrations.runner.locked_session import open_session  # noqa: PLC0415

        async with open_session(run) as session:
            found = await read_status(session, run.source)
        ledger = found.ledger
        verification = drift.verify(run.migrations, ledger)
        if as_json:
            click.echo(_document(verification, ledger))
        else:
            _report(reporter, verification, found.location.missing_table)
        return Exit.DONE if verification.ok else Exit.BEHIND

    return run_command(options, reporter, work)


def _report(reporter: CommandReporter, verification: Verification, missing_table: str) -> None:
    for drift in verification.drifts:
        report = reporter.error if drift.is_problem else reporter.info
        report("found", drift.message, kind=drift.kind, revision=drift.revision)
    if verification.without_down:
        text = (
            f"no down section: {', '.join(verification.without_down)}; put what undoes the migration below a line "
            "`-- migrate:down`, or write `-- migrate:down none` (in Python `down = None`)"
        )
        reporter.info("without_down", text, files=verification.without_down)
    wrong = sum(drift.is_problem for drift in verification.drifts)
    text = f"{wrong} wrong" if wrong else "files and ledger agree"
    text += f"; the table {missing_table} does not exist yet" if missing_table else ""
    text += f"; {len(verification.pending)} pending" if verification.pending else ""
    text += f"; the ledger is ahead by {len(verification.ahead)}" if verification.ahead else ""
    reporter.info("verified", text, wrong=wrong, pending=verification.pending, ahead=verification.ahead)


def _document(verification: Verification, ledger: Ledger) -> str:
    """Return the verification as one JSON object, whose keys docs/migrate.md explains."""
    return json.dumps(
        {
            "ok": verification.ok,
            "head": ledger.head,
            "pending": verification.pending,
            "ahead": verification.ahead,
            "without_down": verification.without_down,
            "findings": [{"wrong": drift.is_problem, **asdict(drift)} for drift in verification.drifts],
        },
        indent=2,
    )
