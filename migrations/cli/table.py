"""Print rows: as a table with colours on a terminal, as aligned plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from migrations.core.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styled: str = "",
    styles: Mapping[Any, str] | None = None,
    headed: bool = True,
) -> None:
    """Print rows under headings to standard output.

    Args:
        headings: One for each column.
        rows: Cells, as many as there are headings.
        styled: Heading of the column whose cells have a style.
        styles: The style of each value in that column, as rich names it; others have none.
        headed: Whether to print the headings also where standard output is not a terminal; False where a script reads
            the rows.
    """
    rows = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in _align([headings, *rows] if headed else rows):
            click.echo(line)
        return
    from rich.console import Console  # noqa: PLC0415 - rich is slow to import, and only a terminal needs it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        cells = zip(headings, row, strict=True)
        # Text, not str: what a database or a cluster holds must not be read as rich's markup.
        table.add_row(*(Text(cell, (styles or {}).get(cell, "") if name == styled else "") for name, cell in cells))
    Console().print(table)


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
