"""How many findings there are, and how many of them are not shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.lint.rule import Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of lint has found.

    Attributes:
        counts: How many findings of each level there are, the hidden ones too.
        files: How many files were judged.
        older: How many files were read only for the schema that they make.
        hidden: How many findings of level advice are not shown.
        known: How many findings the baseline has left out.
        notes: Further remarks, one sentence each.
    """

    counts: Mapping[Level, int]
    files: int
    older: int = 0
    hidden: int = 0
    known: int = 0
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the lines below the findings."""
        yield from self.notes
        counts = ", ".join(plural(self.counts[level], level) for level in (Level.ERROR, Level.WARNING))
        older = f" ({plural(self.older, 'older one')} read for the schema)" if self.older else ""
        known = f"; {self.known} in the baseline" if self.known else ""
        hidden = f"; {self.hidden} of level advice not shown: --advice shows them" if self.hidden else ""
        yield f"{counts} in {plural(self.files, 'file')}{older}{known}{hidden}"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
