"""Findings: violations of rules with their place in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrations.lint.rule import Level, Lock, Violation


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A violation with its place in a file. Findings sort by path, line and column.

    Attributes:
        path: The file.
        line: Line of the statement, from 1; 0 for the whole file.
        column: Column of the statement, from 1; 0 for the whole line.
        rule: Name of the rule.
        level: How much it matters.
        message: What the statement does, with the statement's own names.
        safe: The safe way, line by line.
        lock: Mode of the lock that the statement takes.
        tables: The tables that it locks.
    """

    path: str
    line: int
    column: int
    rule: str
    level: Level
    message: str
    safe: tuple[str, ...] = ()
    lock: Lock | None = None
    tables: tuple[str, ...] = ()


def locate(path: str, text: str, position: int, violation: Violation) -> Finding:
    """Return a violation as a finding.

    Args:
        path: The file.
        text: The whole text of the file.
        position: Offset of the statement in the text, in characters.
        violation: What the statement does.
    """
    line, column = _line_and_column(text, position)
    rule = violation.rule
    return Finding(
        path, line, column, rule.name, rule.level, violation.message, violation.safe, violation.mode, violation.locks
    )


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
