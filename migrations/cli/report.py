"""Tells a person or a log what a run does: plain lines, JSON lines, or a progress bar on a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import click

from migrations.runner.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.core.migration import Migration
    from migrations.postgres.advisory_lock import LockHolder

_WAITING_EVERY = 10.0  # seconds between two lines that say the same


class CommandReporter(Reporter, Protocol):
    """What a command reports: the progress of its run, errors, and a summary of all of it."""

    def error(self, event: str, text: str, **fields: object) -> None:
        """Say what went wrong."""

    @property
    def summary(self) -> str:
        """All of it in one line: the first thing that went wrong, else the last thing said."""


class LineReporter:
    """One line an event, for logs and pipes."""

    def __init__(self) -> None:
        self._said_at: float | None = None
        self._last = ""
        self._failures: list[str] = []

    def waiting(self, holder: LockHolder | None, seconds: float) -> None:
        """Say so at first and then every ten seconds."""
        if self._said_at is None or seconds - self._said_at >= _WAITING_EVERY:
            self._said_at = seconds
            who = str(holder) if holder else "somebody who has just let go of it"
            self.info(
                "waiting", f"waiting for the lock, held by {who}; {seconds:.0f} s so far", seconds=round(seconds, 1)
            )

    def starting(self, migration: Migration, number: int, total: int) -> None:
        """Say nothing: the line comes with the result."""

    def applied(self, migration: Migration, milliseconds: int, number: int, total: int) -> None:
        """Say what was applied, how long it took and how far the run is."""
        text = f"applied {migration.revision} in {milliseconds} ms ({number} of {total})"
        self.info("applied", text, revision=migration.revision, duration_ms=milliseconds, number=number, total=total)

    def info(self, event: str, text: str, **fields: object) -> None:
        """Write a line to standard output."""
        self._last = text
        self._write(event, text, fields, error=False)

    def error(self, event: str, text: str, **fields: object) -> None:
        """Write a line to standard error."""
        self._failures.append(text)
        self._write(event, text, fields, error=True)

    @property
    def summary(self) -> str:
        """The first thing that went wrong and how many more did, else the last thing said."""
        more = f" (and {len(self._failures) - 1} more)" if len(self._failures) > 1 else ""
        return " ".join((self._failures[0] + more if self._failures else self._last).split())

    def _write(self, event: str, text: str, fields: dict[str, object], *, error: bool) -> None:
        del event, fields
        click.echo(f"error: {text}" if error else text, err=error)


class JsonReporter(LineReporter):
    """One JSON object an event: `time`, `level`, `event`, `message` and what belongs to the event."""

    def _write(self, event: str, text: str, fields: dict[str, object], *, error: bool) -> None:
        import json  # noqa: PLC0415 - only here

        level = "error" if error else "info"
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        click.echo(json.dumps({"time": time, "level": level, "event": event, "message": text, **fields}), err=error)


class ProgressReporter(LineReporter):
    """Lines above a progress bar that shows what runs now, and for how long."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console  # noqa: PLC0415 - a terminal only
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bar  # noqa: PLC0415

        self._console = Console(highlight=False)
        columns = (
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Bar(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("", visible=False)

    def starting(self, migration: Migration, number: int, total: int) -> None:
        """Show it beside the bar."""
        self._bar.start()
        self._bar.update(self._task, description=migration.revision, total=total, completed=number - 1, visible=True)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def _write(self, event: str, text: str, fields: dict[str, object], *, error: bool) -> None:
        del fields
        if error:
            self._bar.stop()
            click.secho(f"error: {text}", fg="red", err=True)
        else:
            from rich.text import Text  # noqa: PLC0415 - a terminal only

            self._console.print(Text(text, "green" if event == "applied" else ""), soft_wrap=True)


@contextmanager
def open_reporter(log_format: str | None) -> Iterator[CommandReporter]:
    """Give the report that fits: as the flag says, else a progress bar on a terminal and plain lines elsewhere."""
    if log_format == "json":
        yield JsonReporter()
    elif log_format is None and sys.stdout.isatty():
        report = ProgressReporter()
        try:
            yield report
        finally:
            report.close()
    else:
        yield LineReporter()
