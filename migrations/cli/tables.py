"""Shows a ledger beside the files: a table on a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

from migrations.core.drift import Comparison, RevisionStatus, compare
from migrations.core.ledger import State
from migrations.core.plan import describe_dirty
from migrations.core.revision import declare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.core.drift import Verification
    from migrations.core.ledger import Ledger
    from migrations.core.migration import Migration
    from migrations.postgres.advisory_lock import LockHolder

_HEADINGS = ("REVISION", "STATE", "FINISHED", "TOOK", "BY", "NOTE")
_STYLE = {RevisionStatus.APPLIED: "green", RevisionStatus.PENDING: "yellow", RevisionStatus.MISSING: "yellow"}


def document(migrations: Sequence[Migration], ledger: Ledger, holder: LockHolder | None, *, at_expected: bool) -> str:
    """Give everything as one JSON object, whose keys docs/migrate.md explains; each is always there.

    Args:
        migrations: The files, in order.
        ledger: What is recorded.
        holder: Who holds the lock.
        at_expected: Whether the ledger holds every file's revision.
    """
    return json.dumps(
        {
            "expected": str(declare([migration.revision for migration in migrations])) if migrations else None,
            "head": ledger.head,
            "at_expected": at_expected,
            "dirty": ledger.dirty.revision if ledger.dirty else None,
            "revisions": [_row(row) for row in compare(migrations, ledger)],
            "lock": asdict(holder) if holder else None,
        },
        default=datetime.isoformat,
        indent=2,
    )


def _row(row: Comparison) -> dict[str, object]:
    record = row.record
    return {
        "revision": row.revision,
        "standing": row.status,
        "path": str(row.migration.path) if row.migration else None,
        "compatible_from": row.compatible_from,
        "checksum": record.checksum if record else None,
        "batch": record.batch if record else None,
        "started_at": record.started_at if record else None,
        "finished_at": record.finished_at if record else None,
        "duration_ms": record.duration_ms if record else None,
        "applied_by": record.applied_by if record else None,
        "error": record.error if record else None,
    }


def verified(verification: Verification, ledger: Ledger) -> str:
    """Give a verification as one JSON object."""
    return json.dumps(
        {
            "ok": verification.ok,
            "head": ledger.head,
            "pending": verification.pending,
            "ahead": verification.ahead,
            "findings": [{"wrong": drift.is_problem, **asdict(drift)} for drift in verification.drifts],
        },
        indent=2,
    )


def show(migrations: Sequence[Migration], ledger: Ledger, holder: LockHolder | None) -> None:
    """Write a table, or aligned lines where standard output is no terminal."""
    rows = compare(migrations, ledger)
    if sys.stdout.isatty():
        _table(rows)
    else:
        for cells in _aligned([_HEADINGS, *(_cells(row) for row in rows)]):
            click.echo(cells)
    counts = [f"{sum(row.status is standing for row in rows)} {standing}" for standing in RevisionStatus]
    click.echo(f"head: {ledger.head or 'none'}; " + ", ".join(count for count in counts if not count.startswith("0 ")))
    click.echo(f"lock: {f'held by {holder}' if holder else 'free'}")
    for line in _remarks(ledger, running=holder is not None):
        click.echo(line)


def _remarks(ledger: Ledger, *, running: bool) -> Iterator[str]:
    """Give what somebody has to know, or to do."""
    floor, dirty = ledger.strictest_contract, ledger.dirty
    if floor is not None:
        yield f"contract: images older than {floor.compatible_from} cannot run, since {floor.revision} is applied"
    if dirty is not None and dirty.state is State.RUNNING and running:
        yield f"running: {dirty.revision} since {dirty.started_at:%Y-%m-%d %H:%M:%S%z}, by {dirty.applied_by}"
    elif dirty is not None:
        yield f"dirty: {describe_dirty(dirty)}"


def _cells(row: Comparison) -> tuple[str, ...]:
    record = row.record
    contract = f"contract: images older than {row.compatible_from} cannot run" if row.compatible_from else ""
    if record is None:
        return (row.revision, row.status, "", "", "", contract)
    error = record.error.partition("\n")[0] if record.error else ""
    return (
        row.revision,
        row.status,
        f"{record.finished_at:%Y-%m-%d %H:%M:%S%z}" if record.finished_at else "",
        "" if record.duration_ms is None else f"{record.duration_ms} ms",
        record.applied_by or "",
        "; ".join(filter(None, (contract, error))),
    )


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _table(rows: Sequence[Comparison]) -> None:
    from rich.console import Console  # noqa: PLC0415 - a terminal only
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*_HEADINGS, box=None)
    for row in rows:
        style = _STYLE.get(row.status, "red")
        name, standing, *rest = _cells(row)
        table.add_row(Text(name), Text(standing, style), *map(Text, rest))
    Console().print(table)
