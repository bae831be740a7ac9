"""`status` and `revision` for the ledgers and directories of other tools."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrations.cli.exit_codes import Exit
from migrations.cli.invocation import CommonOptions, report_unusable, run_command
from migrations.core.drift import compare
from migrations.core.ledger import History
from migrations.core.migration import FilesError, Migration, SectionBody
from migrations.core.revision import RevisionError, canonical
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.cli.report import CommandReporter
    from migrations.core.drift import Comparison
    from migrations.dialects.dialect import Dialect
    from migrations.runner.run import RunOptions
    from migrations.runner.status import LedgerStatus


def find_dialect(name: str | None) -> Dialect:
    """Give the dialect that a flag names, or our own.

    Raises:
        DialectError: There is none of this name.
    """
    from migrations.dialects.catalogue import find_dialect  # noqa: PLC0415 - what `new` and `lint` do without
    from migrations.dialects.native import NATIVE  # noqa: PLC0415 - what `new` and `lint` do without

    return find_dialect(name) if name else NATIVE


def known(dialect: Dialect, directory: Path, *, needed: bool = True) -> tuple[str, ...]:
    """Return the names of the migrations in a directory, in the order of the dialect.

    Args:
        dialect: Of the tool whose directory it is.
        directory: Where it is.
        needed: Whether a directory that is missing, or cannot tell, is a mistake; else it names none.

    Raises:
        FilesError: Ours has problems.
        ExternalFilesError: Another tool's has.
    """
    try:
        return dialect.directory(directory)
    except (FilesError, ExternalFilesError):
        if needed or (dialect.name == "ledgergate" and directory.is_dir()):
            raise
        return ()


def revision(options: CommonOptions, report: CommandReporter, *, dialect: str | None, ancestors: bool) -> int:
    """Print what an image with this directory expects, or all that leads to it."""
    try:
        written_in = find_dialect(dialect)
        names = known(written_in, options.directory)
        click.echo(",".join(names[:-1]) if ancestors else written_in.declare(names))
    except (FilesError, ExternalFilesError, RevisionError, LookupError) as error:
        return report_unusable(report, error)
    return Exit.DONE


def status(options: CommonOptions, report: CommandReporter, *, dialect: str, as_json: bool, check: bool) -> int:
    """Show how every revision stands in another tool's ledger, and who is at work on it."""
    try:
        written_in = find_dialect(dialect)
    except LookupError as error:
        return report_unusable(report, error)

    async def work(run: RunOptions) -> int:
        from migrations.runner.status import read_status  # noqa: PLC0415 - the driver

        found = await read_status(replace(run, source=replace(run.source, dialect=written_in)))
        try:
            names = known(found.location.dialect, options.directory, needed=check)
        except (FilesError, ExternalFilesError) as error:
            return report_unusable(report, error)
        click.echo(_document(names, found) if as_json else "\n".join(_lines(names, found)))
        return Exit.BEHIND if check and not _at_expected(names, found) else Exit.DONE

    return run_command(options, report, work, files=False)


def _at_expected(names: Sequence[str], found: LedgerStatus) -> bool:
    return not names or found.ledger.is_complete_for(found.location.dialect.declare(names))


def _rows(names: Sequence[str], found: LedgerStatus) -> tuple[Comparison, ...]:
    """Compare, where the ledger keeps a history to compare with."""
    if found.ledger.history in {History.HEADS, History.NUMBER}:
        return ()
    script = SectionBody(None)
    migrations = [Migration(canonical(name), Path(name), "", script) for name in names]
    return compare(migrations, found.ledger)


def _document(names: Sequence[str], found: LedgerStatus) -> str:
    """Give one JSON object; the keys that it shares with the native one mean the same."""
    location, ledger = found.location, found.ledger
    return json.dumps(
        {
            "dialect": location.dialect.name,
            "table": f"{location.table.schema}.{location.table.name}",
            "expected": str(location.dialect.declare(names)) if names else None,
            "head": ledger.head,
            "at_expected": _at_expected(names, found),
            "dirty": ledger.dirty.revision if ledger.dirty else None,
            "revisions": [
                {
                    "revision": row.revision,
                    "standing": row.status,
                    "batch": row.record.batch if row.record else None,
                    "finished_at": row.record.finished_at if row.record else None,
                }
                for row in _rows(names, found)
            ],
            "lock": asdict(found.holder) if found.holder else None,
            "row_lock": asdict(found.row_lock) if found.row_lock else None,
        },
        default=datetime.isoformat,
        indent=2,
    )


def _lines(names: Sequence[str], found: LedgerStatus) -> Iterator[str]:
    location, ledger = found.location, found.ledger
    rows = _rows(names, found)
    width = max((len(row.revision) for row in rows), default=0)
    for row in rows:
        finished = row.record.finished_at if row.record else None
        when = f"{finished:%Y-%m-%d %H:%M:%S%z}" if finished else ""
        yield f"{row.revision:<{width}}  {row.status:<8}  {when}".rstrip()
    there = "" if location.exists else ", which is not there yet"
    yield f"ledger: {location.dialect.name}, {location.table.schema}.{location.table.name}{there}"
    yield f"head: {ledger.head or 'none'}"
    if names:
        expected = location.dialect.declare(names)
        yield f"expected: {expected}{'' if _at_expected(names, found) else ', which the ledger does not hold'}"
    yield f"lock: {f'held by {found.holder}' if found.holder else 'free'}"
    if found.row_lock:
        yield f"row lock: taken{f' by {found.row_lock.holder}' if found.row_lock.holder else ''}"
    if ledger.dirty:
        yield f"dirty: {ledger.dirty.revision} {ledger.dirty.state}"
