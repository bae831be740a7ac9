"""`ledgergate migrate status`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_unusable, run_command
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.directory import extension_flag, list_migrations, select_dialect, select_phase
from migrations.cli.options import common_options, phase_flag
from migrations.cli.table import print_table
from migrations.core.contract import describe_left, needed
from migrations.core.drift import RevisionStatus, compare
from migrations.core.ledger import History, State
from migrations.core.migration import FilesError
from migrations.core.plan import describe_dirty
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.cli.report import CommandReporter
    from migrations.core.drift import Comparison
    from migrations.core.migration import Migration
    from migrations.core.revision import Revision
    from migrations.reader.status import LedgerStatus
    from migrations.runner.run import RunOptions

_HEADINGS = ("REVISION", "STATE", "FINISHED", "TOOK", "BY", "NOTE")
_STYLES = {
    RevisionStatus.APPLIED: "green",
    RevisionStatus.PENDING: "yellow",
    RevisionStatus.MISSING: "yellow",
    RevisionStatus.CHANGED: "red",
    RevisionStatus.FAILED: "red",
    RevisionStatus.RUNNING: "red",
}
_TIME = "%Y-%m-%d %H:%M:%S%z"


@click.command(
    epilog=format_examples(
        "ledgergate migrate status",
        "ledgergate migrate status --check && start-the-application",
        "ledgergate migrate status --dialect knex --json | jq .head",
    )
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--check", "Exit 3 unless the ledger holds what an image with the directory needs.", is_flag=True)
@phase_flag(
    "expand: an image needs every migration but the contract migrations at the end of the directory. contract: expect "
    "these too."
)
@flag(
    "--dialect",
    "Tool whose ledger and directory these are, such as knex; `auto` finds it by the tables. Without it: ledgergate.",
    metavar="NAME",
)
@extension_flag
@common_options
def status(
    options: CommonOptions,
    reporter: CommandReporter,
    *,
    dialect: str | None,
    extensions: Sequence[str],
    as_json: bool,
    check: bool,
    phase: str,
) -> int:
    """Show what is applied, pending, missing, changed or dirty, and who holds the lock. Writes nothing.

    With --dialect the directory may be missing unless --check needs it. Exits 3 with --check when the ledger lacks a
    migration that an image with the directory needs, 4 when the database could not be reached.
    """
    try:
        selected = select_dialect(dialect)
    except LookupError as error:
        return report_unusable(reporter, error)

    async def work(run: RunOptions) -> int:
        from migrations.reader.status import read_status  # noqa: PLC0415 - imports the driver
        from migrations.runner.locked_session import open_session  # noqa: PLC0415

        async with open_session(run) as session:
            found = await read_status(session, replace(run.source, dialect=selected))
        migrations = run.migrations
        if dialect is not None:
            try:
                migrations = list_migrations(found.location.dialect, options.directories, extensions, required=check)
            except (FilesError, ExternalFilesError) as error:
                return report_unusable(reporter, error)
        view = _View(migrations, select_phase(migrations, phase), found)
        if as_json:
            click.echo(_document(view))
        else:
            _print(view)
        return Exit.BEHIND if check and not view.at_expected else Exit.DONE

    return run_command(options, reporter, work, files=dialect is None)


@dataclass(frozen=True, slots=True)
class _View:
    """A directory and a ledger, of which the status is shown.

    Attributes:
        migrations: The directory.
        expected: The first of `migrations`: those that the ledger has to hold.
        found: The ledger.
    """

    migrations: Sequence[Migration]
    expected: Sequence[Migration]
    found: LedgerStatus

    @property
    def revision(self) -> Revision | None:
        """The revision that the ledger has to hold; None where the directory is empty."""
        names = [migration.revision for migration in self.expected]
        return self.found.location.dialect.declare(names) if names else None

    @property
    def at_expected(self) -> bool:
        """Whether the ledger holds every migration that is expected, as far as its tool records that."""
        ledger, revision = self.found.ledger, self.revision
        if revision is None:
            return True
        if self.found.location.dialect.name == "ledgergate":
            return all(ledger.contains(migration.revision) for migration in self.expected)
        # Names of other tools' files may differ from what their ledger records, so only the newest one is looked up,
        # and the number and the digest of those before it.
        return ledger.is_complete_for(revision)

    @property
    def contracts_left(self) -> Sequence[Migration]:
        """The contract migrations that an image does not need and that the ledger lacks."""
        trailing = self.migrations[len(needed(self.migrations)) :]
        return [migration for migration in trailing if not self.found.ledger.contains(migration.revision)]


def _compare(view: _View) -> tuple[Comparison, ...]:
    """Compare files and ledger; return nothing where the tool records only heads or a number."""
    found, migrations = view.found, view.migrations
    if found.ledger.history in {History.HEADS, History.NUMBER}:
        return ()
    dialect = found.location.dialect
    if dialect.name == "ledgergate":
        return compare(migrations, found.ledger)
    known = [migration.revision for migration in migrations]
    return compare(migrations, found.ledger, is_elsewhere=dialect.find_elsewhere(known))


def _document(view: _View) -> str:
    """Return the status as one JSON object, whose keys docs/migrate.md explains; each is always there."""
    found, revision = view.found, view.revision
    location, ledger = found.location, found.ledger
    return json.dumps(
        {
            "dialect": location.dialect.name,
            "table": f"{location.table.schema}.{location.table.name}",
            "expected": str(revision) if revision else None,
            "head": ledger.head,
            "at_expected": view.at_expected,
            "contracts_left": [migration.revision for migration in view.contracts_left],
            "dirty": ledger.dirty.revision if ledger.dirty else None,
            "revisions": [_revision(row, found) for row in _compare(view)],
            "lock": asdict(found.holder) if found.holder else None,
            "row_lock": asdict(found.row_lock) if found.row_lock else None,
        },
        default=datetime.isoformat,
        indent=2,
    )


def _revision(row: Comparison, found: LedgerStatus) -> dict[str, object]:
    record = row.record
    native = found.location.dialect.name == "ledgergate"  # of other tools only the names are known, not the paths
    return {
        "revision": row.revision,
        "standing": row.status,
        "path": str(row.migration.path) if native and row.migration else None,
        "compatible_from": row.compatible_from,
        "checksum": record.checksum if record else None,
        "batch": record.batch if record else None,
        "started_at": record.started_at if record else None,
        "finished_at": record.finished_at if record else None,
        "duration_ms": record.duration_ms if record else None,
        "applied_by": record.applied_by if record else None,
        "error": record.error if record else None,
    }


def _print(view: _View) -> None:
    """Print a table of the revisions, and under it what concerns the whole ledger."""
    rows = _compare(view)
    if rows:
        print_table(_HEADINGS, [_cells(row) for row in rows], styled="STATE", styles=_STYLES, headed=False)
    for line in _summary(view, rows):
        click.echo(line)


def _cells(row: Comparison) -> tuple[str, ...]:
    record = row.record
    contract = f"contract: images older than {row.compatible_from} cannot run" if row.compatible_from else ""
    if record is None:
        return (row.revision, row.status, "", "", "", contract)
    error = record.error.partition("\n")[0] if record.error else ""
    return (
        row.revision,
        row.status,
        f"{record.finished_at:{_TIME}}" if record.finished_at else "",
        "" if record.duration_ms is None else f"{record.duration_ms} ms",
        record.applied_by or "",
        "; ".join(filter(None, (contract, error))),
    )


def _summary(view: _View, rows: Sequence[Comparison]) -> Iterator[str]:
    found, revision = view.found, view.revision
    location, ledger = found.location, found.ledger
    yield (
        f"ledger: {location.dialect.name}, {location.table.schema}.{location.table.name}"
        f"{'' if location.exists else ', which is not there yet'}"
    )
    counts = [(sum(row.status is status for row in rows), status) for status in RevisionStatus]
    counted = ", ".join(f"{count} {status}" for count, status in counts if count)
    yield f"head: {ledger.head or 'none'}{f'; {counted}' if counted else ''}"
    if revision is not None:
        yield f"expected: {revision}{'' if view.at_expected else ', which the ledger does not hold'}"
    if left := view.contracts_left:
        yield describe_left(left)
    yield f"lock: {f'held by {found.holder}' if found.holder else 'free'}"
    if found.row_lock:
        yield f"row lock: taken{f' by {found.row_lock.holder}' if found.row_lock.holder else ''}"
    if found.hidden_row_lock:
        yield f"row lock: unknown, since the role may not read {found.hidden_row_lock}"
    contract, dirty = ledger.strictest_contract, ledger.dirty
    if contract is not None:
        yield f"contract: images older than {contract.compatible_from} cannot run, since {contract.revision} is applied"
    if dirty is None:
        return
    if location.dialect.name != "ledgergate":
        yield f"dirty: {dirty.revision} {dirty.state}"  # only its own tool can settle it
    elif dirty.state is State.RUNNING and found.holder is not None:
        since = f" since {dirty.started_at:{_TIME}}" if dirty.started_at else ""
        yield f"running: {dirty.revision}{since}, by {dirty.applied_by}"
    else:
        yield f"dirty: {describe_dirty(dirty)}"
