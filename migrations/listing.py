"""Shows a ledger beside the files: a table on a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

from migrations.revision import declare
from migrations.standing import Row, Standing, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.files import Migration
    from migrations.ledger import Ledger
    from migrations.lock import Holder
    from migrations.verification import Verification

_HEADINGS = ("REVISION", "STATE", "FINISHED", "TOOK", "BY", "NOTE")
_STYLE = {Standing.APPLIED: "green", Standing.PENDING: "yellow", Standing.MISSING: "yellow"}


def document(migrations: Sequence[Migration], ledger: Ledger, holder: Holder | None, *, at_expected: bool) -> str:
    """Give everything as one JSON object.

    Args:
        migrations: The files, in order.
        ledger: What is recorded.
        holder: Who holds the lock.
        at_expected: Whether the ledger holds every file's revision.
    """
    revisions = [
        {"revision": row.revision, "standing": row.standing, **(asdict(row.record) if row.record else {})}
        for row in compare(migrations, ledger)
    ]
    return json.dumps(
        {
            "expected": str(declare([migration.revision for migration in migrations])) if migrations else None,
            "head": ledger.head,
            "at_expected": at_expected,
            "revisions": revisions,
            "lock": asdict(holder) if holder else None,
        },
        default=datetime.isoformat,
        indent=2,
    )


def verified(verification: Verification, ledger: Ledger) -> str:
    """Give a verification as one JSON object."""
    return json.dumps(
        {
            "ok": verification.ok,
            "head": ledger.head,
            "pending": verification.pending,
            "ahead": verification.ahead,
            "findings": [{"wrong": finding.wrong, **asdict(finding)} for finding in verification.findings],
        },
        indent=2,
    )


def show(migrations: Sequence[Migration], ledger: Ledger, holder: Holder | None) -> None:
    """Write a table, or aligned lines where standard output is no terminal."""
    rows = compare(migrations, ledger)
    if sys.stdout.isatty():
        _table(rows)
    else:
        for cells in _aligned([_HEADINGS, *(_cells(row) for row in rows)]):
            click.echo(cells)
    counts = [f"{sum(row.standing is standing for row in rows)} {standing}" for standing in Standing]
    click.echo(f"head: {ledger.head or 'none'}; " + ", ".join(count for count in counts if not count.startswith("0 ")))
    click.echo(f"lock: {f'held by {holder}' if holder else 'free'}")


def _cells(row: Row) -> tuple[str, ...]:
    record = row.record
    if record is None:
        return (row.revision, row.standing, "", "", "", "")
    notes = [f"images older than {record.compatible_from} cannot run"] if record.compatible_from else []
    notes += [record.error.partition("\n")[0]] if record.error else []
    return (
        row.revision,
        row.standing,
        f"{record.finished_at:%Y-%m-%d %H:%M:%S%z}" if record.finished_at else "",
        "" if record.duration_ms is None else f"{record.duration_ms} ms",
        record.applied_by or "",
        "; ".join(notes),
    )


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _table(rows: Sequence[Row]) -> None:
    from rich.console import Console  # noqa: PLC0415 - a terminal only
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*_HEADINGS, box=None)
    for row in rows:
        style = _STYLE.get(row.standing, "red")
        name, standing, *rest = _cells(row)
        table.add_row(Text(name), Text(standing, style), *map(Text, rest))
    Console().print(table)
