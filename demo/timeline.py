"""What the demo prints: one line for each thing that happens, with the seconds since the start."""

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
    """A timeline on standard output, with colour on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()

    def act(self, title: str) -> None:
        """Begin a new act."""
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def say(self, what: str, text: str) -> None:
        """Tell one thing.

        Args:
            what: one word that a reader can scan for.
        """
        line = Text(f"{time.monotonic() - self._start:6.1f} s  ")
        line.append(f"{what:<9} ", style=COLOURS.get(what, "blue"))
        line.append(text)
        self._console.print(line, soft_wrap=True)

    def show(self, command: str, output: str) -> None:
        """Show a command that a person would type, and what it prints."""
        self._console.print(Text(f"{'':10}$ {command}", style="dim"), soft_wrap=True)
        for line in output.rstrip().splitlines():
            self._console.print(Text(f"{'':10}{line}"), soft_wrap=True)

    def sum_up(self, rows: list[tuple[str, str]]) -> None:
        """Close with what was measured."""
        table = Table.grid(padding=(0, 2))
        for name, value in rows:
            table.add_row(Text(name), Text(value, style="bold"))
        self._console.print()
        self._console.print(table)
