"""Print an overview: tables on a terminal, aligned lines elsewhere, or JSON for scripts."""

import json
from datetime import UTC, datetime
from typing import Any

import click

from migrations.cli.table import print_table
from migrations.core.text import clean
from webhook.core.overview import GateRow, Overview, PodRow, format_age

_GATE_HEADINGS = ("NAMESPACE", "NAME", "DIALECT", "HEAD", "APPLIED", "STATE", "HELD", "AGE")
_POD_HEADINGS = ("NAMESPACE", "POD", "GATE", "REASON", "SOURCE", "AGE", "MESSAGE")
_STYLES = {"Live": "green", "Dirty": "red", "Misconfigured": "red", "Unreachable": "yellow"}


def format_json(overview: Overview) -> str:
    """Format an overview as one JSON object, whose keys docs/guard.md explains; each is always there."""
    return json.dumps(
        {"gates": [_gate(row) for row in overview.gates], "held": [_pod(row) for row in overview.held]}, indent=2
    )


def print_overview(overview: Overview, now: datetime, *, where: str) -> None:
    """Print both tables to standard output.

    Args:
        where: what was listed, as `in namespace shop` or `in any namespace`.
    """
    if overview.gates:
        cells = [_gate_cells(row, now) for row in overview.gates]
        print_table(_GATE_HEADINGS, cells, styled="STATE", styles=_STYLES)
        for row in overview.gates:
            for remark in row.remarks:
                click.echo(clean(f"{row.namespace}/{row.name}: {remark}"))
    else:
        click.echo(f"no LedgerGate {where}")
    click.echo()
    if overview.held:
        print_table(_POD_HEADINGS, [_pod_cells(row, now) for row in overview.held])
    else:
        click.echo(f"no pod is held {where}")


def _gate_cells(row: GateRow, now: datetime) -> tuple[str, ...]:
    applied = "" if row.applied is None else str(row.applied)
    age = format_age(row.created_at, now)
    return row.namespace, row.name, row.dialect, row.head or "", applied, row.state, str(row.held), age


def _pod_cells(row: PodRow, now: datetime) -> tuple[str, ...]:
    source, age = row.source.partition(" ")[0], format_age(row.held_since, now)
    return row.namespace, row.name, ",".join(row.gates), row.reason, source, age, row.message


def _gate(row: GateRow) -> dict[str, Any]:
    return {
        "namespace": row.namespace,
        "name": row.name,
        "dialect": row.dialect,
        "head": row.head,
        "applied": row.applied,
        "state": row.state,
        "held": row.held,
        "created_at": _timestamp(row.created_at),
        "migration": row.migration,
        "bypass_until": _timestamp(row.bypass_until),
        "remarks": row.remarks,
    }


def _pod(row: PodRow) -> dict[str, Any]:
    return {
        "namespace": row.namespace,
        "pod": row.name,
        "gates": row.gates,
        "reason": row.reason,
        "message": row.message,
        "source": row.source or None,
        "held_since": _timestamp(row.held_since),
    }


def _timestamp(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
