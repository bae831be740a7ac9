"""What a command reports: as plain lines, JSON lines or a progress bar, and as the container's termination message."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from migrations.core.migration import Migration
    from migrations.postgres.advisory_lock import LockHolder
    from migrations.runner.reporter import Reporter

    # Needed for types alone: a protocol is slow to define, and every pod that starts waits for these imports.
    class CommandReporter(Reporter, Protocol):
        """Receives what a command does while it works, and how it ended."""

        def error(self, event: str, text: str, **fields: object) -> None:
            """Report a failure."""

        @property
        def summary(self) -> str:
            """The outcome in one line: the first failure, else the last thing reported."""


_WAITING_INTERVAL = 10.0  # seconds between two lines about the same wait
_TERMINATION_LOG = "/dev/termination-log"
_IN_A_POD = "KUBERNETES_SERVICE_HOST"
_LOG_PATH = "LEDGERGATE_TERMINATION_LOG"
_MAX_BYTES = 4096  # the kubelet cuts what is longer


class LineReporter:
    """One line for each event, for logs and pipes."""

    def __init__(self) -> None:
        self._waiting_reported_at: float | None = None
        self._last = ""
        self._failures: list[str] = []

    def waiting(self, holder: LockHolder | None, seconds: float) -> None:
        """Report the wait at once and then every ten seconds."""
        if self._waiting_reported_at is None or seconds - self._waiting_reported_at >= _WAITING_INTERVAL:
            self._waiting_reported_at = seconds
            who = f"held by {holder}" if holder else "just released by another session"
            self.info("waiting", f"waiting for the lock, {who}; {seconds:.0f} s so far", seconds=round(seconds, 1))

    def starting(self, migration: Migration, number: int, total: int) -> None:
        """Write nothing: the line comes with the result."""

    def applied(self, migration: Migration, milliseconds: int, number: int, total: int) -> None:
        """Report what was applied, how long it took and how far the run is."""
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
        """The first failure and the number of further ones, else the last thing reported."""
        more = f" (and {len(self._failures) - 1} more)" if len(self._failures) > 1 else ""
        return " ".join((self._failures[0] + more if self._failures else self._last).split())

    def _write(self, event: str, text: str, fields: dict[str, object], *, error: bool) -> None:
        del event, fields
        click.echo(f"error: {text}" if error else text, err=error)


class JsonReporter(LineReporter):
    """One JSON object for each event: `time`, `level`, `event`, `message` and the fields of the event."""

    def _write(self, event: str, text: str, fields: dict[str, object], *, error: bool) -> None:
        import json  # noqa: PLC0415 - only this reporter needs it

        level = "error" if error else "info"
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        click.echo(json.dumps({"time": time, "level": level, "event": event, "message": text, **fields}), err=error)


class ProgressReporter(LineReporter):
    """Lines above a progress bar that shows which migration runs now, and for how long."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console  # noqa: PLC0415 - rich is slow to import, and only a terminal needs it
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
        """Show the migration beside the bar."""
        self._bar.start()
        self._bar.update(self._task, description=migration.revision, total=total, completed=number - 1, visible=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _write(self, event: str, text: str, fields: dict[str, object], *, error: bool) -> None:
        del fields
        if error:
            self._bar.stop()
            click.secho(f"error: {text}", fg="red", err=True)
        else:
            from rich.text import Text  # noqa: PLC0415 - rich is slow to import, and only a terminal needs it

            self._console.print(Text(text, "green" if event == "applied" else ""), soft_wrap=True)


@contextmanager
def open_reporter(log_format: str | None) -> Iterator[CommandReporter]:
    """Yield the reporter that the flag asks for, else a progress bar on a terminal and plain lines elsewhere."""
    if log_format == "json":
        yield JsonReporter()
    elif log_format is None and sys.stdout.isatty():
        reporter = ProgressReporter()
        try:
            yield reporter
        finally:
            reporter.close()
    else:
        yield LineReporter()


def write_termination_log(environment: Mapping[str, str], command: str, code: int, summary: str) -> None:
    """Write one line to the termination log, if this process runs in a pod that has such a file.

    Args:
        environment: The process's environment.
        command: Which command ended.
        code: Its exit code.
        summary: The outcome in one line; when it is empty, as for a command that only prints, nothing is written.

    Source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
    """
    path = Path(environment.get(_LOG_PATH) or _TERMINATION_LOG)
    if not summary or not environment.get(_IN_A_POD) or not path.is_file():
        return
    text = f"ledgergate {command}{f' (exit {code})' if code else ''}: {summary}\n"
    with suppress(OSError):  # a message that cannot be written must not change the exit code
        path.write_bytes(text.encode()[:_MAX_BYTES])
