"""Findings: a statement with the rules that it breaks, and its place in a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from migrations.lint.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from migrations.lint.rule import Lock, Violation

_ORDER = list(Level)


@dataclass(frozen=True, slots=True)
class Reason:
    """A violation as reports show it.

    Attributes:
        rule: Name of the rule.
        level: How much it matters: the rule's level, unless the policy sets another.
        message: What the statement does, with the statement's own names.
        safe: The safe way, line by line.
        lock: Mode of the lock that the statement takes.
        tables: The tables that it locks.
    """

    rule: str
    level: Level
    message: str
    safe: tuple[str, ...] = ()
    lock: Lock | None = None
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A statement, a comment or a file with what is wrong with it. Findings sort by path, line and column.

    Attributes:
        path: The file.
        line: Line of the statement, from 1; 0 for the whole file.
        column: Column of the statement, from 1; 0 for the whole line.
        reasons: The rules that it breaks, at least one, the gravest first.
        fingerprint: Twelve hexadecimal digits that stay the same when the statement is moved or indented.
        end_line: Line of the statement's last character; 0 where that is not known.
    """

    path: str
    line: int
    column: int
    reasons: tuple[Reason, ...] = field(compare=False)
    fingerprint: str = field(default="", compare=False)
    end_line: int = field(default=0, compare=False)

    @property
    def gravest(self) -> Reason:
        """The first reason; none of the others has a higher level."""
        return self.reasons[0]

    @property
    def rule(self) -> str:
        """Name of the gravest reason's rule."""
        return self.reasons[0].rule

    @property
    def level(self) -> Level:
        """Level of the gravest reason."""
        return self.reasons[0].level

    @property
    def message(self) -> str:
        """Message of the gravest reason."""
        return self.reasons[0].message


def locate(path: str, text: str, span: tuple[int, int], violations: Sequence[Violation]) -> Finding:
    """Return the violations of one statement as a finding.

    Args:
        path: The file.
        text: The whole text of the file.
        span: Offset of the statement's first character in the text, and the offset behind its last, in characters.
        violations: What the statement does, at least one.
    """
    begin, end = span
    line = text.count("\n", 0, begin) + 1
    statement = text[begin:end]
    return Finding(
        path,
        line,
        begin - text.rfind("\n", 0, begin),
        arrange(
            Reason(found.rule.name, found.rule.level, found.message, found.safe, found.mode, found.locks)
            for found in violations
        ),
        fingerprint(statement),
        line + statement.count("\n"),
    )


def arrange(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Return each reason once, sorted by level, the gravest first."""
    return tuple(sorted(dict.fromkeys(reasons), key=lambda reason: _ORDER.index(reason.level)))


def fingerprint(statement: str) -> str:
    """Return twelve hexadecimal digits for a statement; white space between its words does not change them."""
    return sha256(" ".join(statement.split()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
