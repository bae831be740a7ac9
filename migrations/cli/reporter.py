"""What a command reports to. Only type checkers import this module, so that no run pays for it."""

from __future__ import annotations

from typing import Protocol

from migrations.runner.reporter import Reporter


class CommandReporter(Reporter, Protocol):
    """Receives what a command does while it works, and how it ended."""

    def error(self, event: str, text: str, **fields: object) -> None:
        """Report a failure."""

    @property
    def summary(self) -> str:
        """The outcome in one line: the first failure, else the last thing reported."""
