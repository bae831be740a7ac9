"""A migration as its file declares it, and the problems that a file can have.

ValueError
└── FilesError   every problem of a directory at once
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    AddProblem = Callable[[int, str], None]  # line, text
    Sections = tuple["SectionBody", "SectionBody | None", str | None, "Undo"]  # up, down, compatible_from, undo


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong with a migration file.

    Attributes:
        path: The file, or the directory.
        line: Line number from 1; 0 where the problem has no line.
        text: What is expected and what is there.
    """

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}" if self.line else f"{self.path}: {self.text}"


class FilesError(ValueError):
    """A directory of migrations that cannot be used.

    Attributes:
        problems: Every one, sorted by file and line.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class SectionBody:
    """One section of a migration: SQL, or a function of a Python module.

    Attributes:
        sql: The text; None for Python.
        line: Line of the file on which `sql` begins.
        transactional: Whether it runs inside a transaction.
        lock_timeout: Seconds to wait for each lock, 0 for no limit; None for the limit of the run.
        statement_timeout: Seconds for each statement, 0 for no limit; None for the limit of the run.
        unknown: Options behind the marker that mean nothing here, such as those of another tool.
    """

    sql: str | None
    line: int = 1
    transactional: bool = True
    lock_timeout: float | None = None
    statement_timeout: float | None = None
    unknown: tuple[str, ...] = ()


class Undo(Enum):
    """What a file says of undoing the migration."""

    DECLARED = auto()
    """It has a down section, which may be empty."""
    NONE = auto()
    """It declares that the migration cannot be undone: `-- migrate:down none`, or `down = None` in Python."""
    MISSING = auto()
    """It says nothing."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file.

    Attributes:
        revision: Canonical name.
        path: The file.
        checksum: SHA-256 of its bytes, in hex; empty for another tool's file, of which the name alone is known.
        up: How to apply it.
        down: How to undo it; None where the file has no down section, or an empty one.
        compatible_from: For a contract migration, the oldest revision whose images can still run.
        undo: What the file says of undoing it.
        content: The bytes of the file, for `differs_by_line_ends`.
    """

    revision: str
    path: Path
    checksum: str
    up: SectionBody
    down: SectionBody | None = None
    compatible_from: str | None = None
    undo: Undo = Undo.DECLARED
    content: bytes = field(default=b"", repr=False, compare=False)

    def differs_by_line_ends(self, checksum: str | None) -> bool:
        """Return whether a checksum matches this file only after all its line ends are changed to LF, or to CRLF."""
        unix = self.content.replace(b"\r\n", b"\n")
        variants = (unix, unix.replace(b"\n", b"\r\n"))
        return checksum != self.checksum and any(sha256(variant).hexdigest() == checksum for variant in variants)
