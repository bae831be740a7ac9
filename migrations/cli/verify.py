"""`ledgergate migrate verify`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_unusable, run_command
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.directory import extension_flag, list_migrations, select_dialect
from migrations.cli.options import common_options
from migrations.core.ledger import History
from migrations.core.versioning import Versioning
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.cli.report import CommandReporter
    from migrations.core.drift import Verification
    from migrations.core.ledger import Ledger
    from migrations.core.migration import Migration
    from migrations.dialects.dialect import Dialect
    from migrations.runner.run import RunOptions


@click.command(
    epilog=format_examples(
        "ledgergate migrate verify",
        "ledgergate migrate verify --json | jq '.findings[].message'",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--dialect", "Tool whose ledger and directory these are, such as knex. Without it: ledgergate.", metavar="NAME")
@extension_flag
@common_options
def verify(
    options: CommonOptions,
    reporter: CommandReporter,
    *,
    as_json: bool,
    dialect: str | None,
    extensions: Sequence[str],
) -> int:
    """Check the files against the ledger: edited, missing, skipped and half-applied revisions. Writes nothing.

    Exits 3 when something is wrong. Pending revisions are not wrong, nor is a ledger that is ahead of the files. Of
    another tool's migrations only the names are compared.
    """
    try:
        selected = select_dialect(dialect)
        names = () if selected.name == "ledgergate" else _list_foreign(selected, options, extensions)
    except (LookupError, ExternalFilesError, VerificationError) as error:
        return report_unusable(reporter, error)

    async def work(run: RunOptions) -> int:
        from migrations.core import drift  # noqa: PLC0415 - only `status` and `verify` need it
        from migrations.reader.status import read_status  # noqa: PLC0415 - imports the driver
        from migrations.runner.locked_session import open_session  # noqa: PLC0415

        async with open_session(run) as session:
            found = await read_status(session, replace(run.source, dialect=selected))
        ledger = found.ledger
        verification = _verify_foreign(names, ledger, selected) if names else drift.verify(run.migrations, ledger)
        if as_json:
            click.echo(_document(verification, ledger))
        else:
            _report(reporter, verification, found.location.missing_table)
        return Exit.DONE if verification.ok else Exit.BEHIND

    return run_command(options, reporter, work, files=not names)


class VerificationError(ValueError):
    """A ledger that does not record what could be compared with files."""


def _list_foreign(dialect: Dialect, options: CommonOptions, extensions: Sequence[str]) -> tuple[Migration, ...]:
    if dialect.history is History.HEADS or dialect.name == "auto":
        raise VerificationError(
            f"expected --dialect to name a tool whose ledger has every migration, got {dialect.name}; "
            "`ledgergate migrate status --check` compares the newest one"
        )
    return list_migrations(dialect, options.directories, extensions)


def _verify_foreign(migrations: Sequence[Migration], ledger: Ledger, dialect: Dialect) -> Verification:
    """Compare the names of another tool's migrations with its ledger; ledgergate neither applies nor undoes them."""
    from migrations.core.drift import DriftKind, verify, verify_names  # noqa: PLC0415 - as in `verify`

    missing = f"{{}} is applied, but has no file; {dialect.name} may refuse the directory"
    if dialect.history is not History.NAMES or dialect.versioning is not Versioning.NAME:
        is_elsewhere = dialect.find_elsewhere([migration.revision for migration in migrations])
        verification = verify_names(migrations, ledger, is_elsewhere)
        texts = {DriftKind.MISSING: missing}
    else:
        verification = verify(migrations, ledger)
        texts = {
            DriftKind.GAP: f"{{}} is not applied, although {ledger.head} is, which is newer",
            DriftKind.MISSING: missing,
        }
    drifts = (
        replace(drift, message=texts[drift.kind].format(drift.revision), path=None) if drift.kind in texts else drift
        for drift in verification.drifts
    )
    return replace(verification, drifts=tuple(drifts), without_down=())


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
