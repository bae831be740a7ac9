"""A finding: a rule that a place in a file breaks, with everything that a person or a program needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrations.lint.rule import Hit, Level, Lock


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that lint has found.

    Attributes:
        path: The file.
        line: Of the statement, from 1; 0 for the whole file.
        column: Of the statement, from 1; 0 for the whole line.
        rule: Name of the rule.
        level: How much it matters.
        message: What happens, in the statement's own names.
        safe: The safe way, line by line.
        lock: Mode of the lock that the statement takes.
        tables: What it takes that lock on.
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


def found(path: str, text: str, position: int, hit: Hit) -> Finding:
    """Say where a hit is.

    Args:
        path: The file.
        text: All of it.
        position: Offset of the statement in it, in characters.
        hit: What was found.
    """
    line, column = place(text, position)
    return Finding(path, line, column, hit.rule.name, hit.rule.level, hit.message, hit.safe, hit.mode, hit.locks)


def place(text: str, position: int) -> tuple[int, int]:
    """Give line and column of an offset, both from 1."""
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
