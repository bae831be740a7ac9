"""Figures as tables for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from bench.migrate import CROWD, CROWD_PENDING, HORDE, MANY

Figures = Mapping[str, Any]


def of(name: str, results: Figures) -> Iterator[Table]:
    """Give the tables of one benchmark's results."""
    yield from {"release": _release, "migrate": _migrate}[name](results)


def _release(results: Figures) -> Iterator[Table]:
    table = Table("what", "median", "p95", "max", "of", title="releases")
    for what, found in results.items():
        times = (f"{found[key]:.0f} ms" for key in ("median_ms", "p95_ms", "max_ms"))
        table.add_row(what, *times, str(found["count"]))
    yield table


def _migrate(results: Figures) -> Iterator[Table]:
    versions = results["versions"]
    yield _compared(f"nothing pending, {MANY} applied", results["nothing_pending"], "knex", versions)
    yield _compared(f"{MANY} small migrations, a commit each", results["small_migrations"], "psql", versions)
    table = Table("tool", "exit 0", "a migration ran", title=f"{CROWD} at once, {CROWD_PENDING} pending")
    for name, found in results["at_once"].items():
        exited = ", ".join(map(str, found["exited_0"]))
        table.add_row(name, f"{exited} of {found['of']}", _times(found))
    yield table
    found = results["many_at_once"]
    table = Table(
        "exit 0", "a migration ran", "wall", "CPU", title=f"{HORDE} ledgergate at once, {MANY} pending, 100 connections"
    )
    table.add_row(f"{found['exited_0']} of {found['of']}", _times(found), f"{found['wall_s']} s", f"{found['cpu_s']} s")
    yield table


def _compared(title: str, tools: Figures, reference: str, versions: Mapping[str, str]) -> Table:
    table = Table("tool", "version", "wall", "least to most", "CPU", "least to most", title=title)
    if reference in tools:
        for what in ("wall", "CPU"):
            table.add_column(f"{what} / {reference}")
    for name, found in sorted(tools.items(), key=lambda item: float(item[1]["wall_ms"])):
        row = [name, versions.get(name.split(",")[0], "")]
        for what in ("wall", "cpu"):
            row += [
                f"{found[f'{what}_ms']:.0f} ms",
                f"{found[f'{what}_least_ms']:.0f} to {found[f'{what}_most_ms']:.0f} ms",
            ]
        if reference in tools:
            row += [f"{ratio(found, tools[reference], what):.2f}" for what in ("wall_ms", "cpu_ms")]
        table.add_row(*row)
    return table


def ratio(found: Figures, reference: Figures, what: str) -> float:
    """Say how many times the reference's median a tool's is."""
    return round(float(found[what]) / float(reference[what]), 2)


def _times(found: Figures) -> str:
    least, most = found["least_runs"], found["most_runs"]
    return "once" if least == most == 1 else f"{least} to {most} times"
