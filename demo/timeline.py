"""The demo's output: one line for each event, with the seconds since the start."""

import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = {
    "held": "yellow",
    "released": "green",
    "running": "green",
    "migrated": "cyan",
    "denied": "red",
    "killed": "red",
}


class Timeline:
    """A timeline on standard output, coloured on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()

    def heading(self, title: str) -> None:
        """Print the heading of a new part."""
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def event(self, what: str, text: str) -> None:
        """Print an event.

        Args:
            what: One word that a reader can scan for.
            text: What happened.
        """
        line = Text(f"{time.monotonic() - self._start:6.1f} s  ")
        line.append(f"{what:<9} ", style=COLOURS.get(what, "blue"))
        line.append(text)
        self._console.print(line, soft_wrap=True)

    def show(self, command: str, output: str) -> None:
        """Print a command line and its output."""
        self._console.print(Text(f"{'':10}$ {command}", style="dim"), soft_wrap=True)
        for line in output.rstrip().splitlines():
            self._console.print(Text(f"{'':10}{line}"), soft_wrap=True)

    def summary(self, rows: list[tuple[str, str]]) -> None:
        """Print the measurements."""
        table = Table.grid(padding=(0, 2))
        for name, value in rows:
            table.add_row(Text(name), Text(value, style="bold"))
        self._console.print()
        self._console.print(table)
