"""Show a survey: tables on a terminal, aligned lines elsewhere, or JSON for scripts."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from webhook.core.overview import GateRow, Overview, PodRow, format_age

_GATE_HEADINGS = ("NAMESPACE", "NAME", "DIALECT", "HEAD", "APPLIED", "STATE", "HELD", "AGE")
_POD_HEADINGS = ("NAMESPACE", "POD", "GATE", "REASON", "AGE", "MESSAGE")
_STYLE = {"Live": "green", "Dirty": "red", "Misconfigured": "red", "Unreachable": "yellow"}

Row = tuple[str, ...]


def document(survey: Overview) -> str:
    """Give everything as one JSON object, whose keys docs/guard.md explains; each is always there."""
    return json.dumps(
        {"gates": [_gate(line) for line in survey.gates], "held": [_pod(line) for line in survey.held]}, indent=2
    )


def show(survey: Overview, now: datetime, *, where: str) -> None:
    """Write both tables to standard output.

    Args:
        where: what was looked at, as `in namespace shop` or `in any namespace`.
    """
    if survey.gates:
        _table(_GATE_HEADINGS, [_gate_cells(line, now) for line in survey.gates], styled="STATE")
        for line in survey.gates:
            for remark in line.remarks:
                click.echo(f"{line.namespace}/{line.name}: {remark}")
    else:
        click.echo(f"no LedgerGate {where}")
    click.echo()
    if survey.held:
        _table(_POD_HEADINGS, [_pod_cells(line, now) for line in survey.held], styled="")
    else:
        click.echo(f"no pod is held {where}")


def _gate_cells(line: GateRow, now: datetime) -> Row:
    applied = "" if line.applied is None else str(line.applied)
    since = format_age(line.created_at, now)
    return line.namespace, line.name, line.dialect, line.head or "", applied, line.state, str(line.held), since


def _pod_cells(line: PodRow, now: datetime) -> Row:
    return line.namespace, line.name, ",".join(line.gates), line.reason, format_age(line.held_since, now), line.message


def _gate(line: GateRow) -> dict[str, Any]:
    return {
        "namespace": line.namespace,
        "name": line.name,
        "dialect": line.dialect,
        "head": line.head,
        "applied": line.applied,
        "state": line.state,
        "held": line.held,
        "created_at": _time(line.created_at),
        "migration": line.migration,
        "bypass_until": _time(line.bypass_until),
        "remarks": line.remarks,
    }


def _pod(line: PodRow) -> dict[str, Any]:
    return {
        "namespace": line.namespace,
        "pod": line.name,
        "gates": line.gates,
        "reason": line.reason,
        "message": line.message,
        "held_since": _time(line.held_since),
    }


def _time(when: datetime | None) -> str | None:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if when else None


def _table(headings: Row, rows: Sequence[Row], *, styled: str) -> None:
    if not sys.stdout.isatty():
        for text in _aligned([headings, *rows]):
            click.echo(text)
        return
    from rich.console import Console  # noqa: PLC0415 - a terminal only
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        cells = zip(headings, row, strict=True)
        table.add_row(*(Text(cell, _STYLE.get(cell, "") if name == styled else "") for name, cell in cells))
    Console().print(table)


def _aligned(rows: Sequence[Row]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
