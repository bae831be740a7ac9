"""The files below a directory, as far as lint may read them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from migrations.core.migration import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

STDIN = "<stdin>"
_FOREIGN = frozenset({"node_modules", "site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True, slots=True)
class FileTree:
    """The files below a directory, without those of hidden directories and installed packages.

    Attributes:
        root: The directory.
        files: Paths below it with slashes, sorted.
        contents: Files that have been read, by path.
    """

    root: Path
    files: tuple[str, ...]
    contents: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    def shown(self, file: str) -> str:
        """Return the path of a file as findings name it."""
        # A path need not be UTF-8, but reports are.
        return file if file == STDIN else os.fsencode(self.root / file).decode("utf-8", "backslashreplace")

    def read(self, file: str) -> tuple[str, tuple[Problem, ...]]:
        """Return the text of a file, empty with a problem where it cannot be read or is no UTF-8."""
        shown = self.shown(file)
        try:
            content = self.contents[file] if file in self.contents else (self.root / file).read_bytes()
        except OSError as error:
            return "", (Problem(shown, 0, f"expected a file that can be read: {error.strerror}"),)
        self.contents[file] = content
        try:
            return content.decode("utf-8-sig"), ()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            return "", (Problem(shown, line, "expected UTF-8 text; save the file as UTF-8"),)

    def text(self, file: str) -> str:
        """Return the text of a file, empty where it has none."""
        return self.read(file)[0]

    def top(self, suffix: str = ".sql") -> list[str]:
        """Return the files directly in the directory with a suffix, hidden ones excepted."""
        return [file for file in self.files if "/" not in file and file.endswith(suffix) and file[0] != "."]

    def only(self, files: Collection[str]) -> FileTree:
        """Return the tree with some of its files."""
        return replace(self, files=tuple(file for file in self.files if file in files))

    def without(self, patterns: Iterable[str]) -> FileTree:
        """Return the tree without the files whose name, path or directory matches a pattern such as `V1__*`."""
        patterns = tuple(patterns)
        return self.only({file for file in self.files if not _matches(file, patterns)}) if patterns else self


def walk(root: Path) -> FileTree:
    """Return the files below a directory.

    Raises:
        OSError: A directory cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    found = []
    for directory, directories, files in os.walk(root, onerror=fail):
        directories[:] = [name for name in directories if name[0] != "." and name not in _FOREIGN]
        prefix = Path(directory).relative_to(root).as_posix()
        found += files if prefix == "." else [f"{prefix}/{name}" for name in files]
    return FileTree(root, tuple(sorted(found)))


def _matches(file: str, patterns: tuple[str, ...]) -> bool:
    path = PurePosixPath(file)
    candidates = (file, path.name, *(str(parent) for parent in path.parents), *(f"{p}/" for p in path.parents))
    return any(fnmatchcase(candidate, pattern) for pattern in patterns for candidate in candidates)
