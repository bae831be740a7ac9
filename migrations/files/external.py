"""Functions that list the migrations of another tool's directory: their names, oldest first, in the tool's own order.

A dialect describes its tool's directory with one of them, see `Dialect.directory`. What counts is what the tool itself
would find there, by its own documentation or source: a migration that is left out lets pods start too early, and one
that the tool never runs holds them for ever. What the tool refuses is a problem here, too.

ValueError
└── ExternalFilesError   every problem of the directory at once
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from migrations.core.versioning import Versioning

    DirectoryLister = Callable[[Path], tuple[str, ...]]

_FOREIGN = frozenset({"node_modules", "site-packages", "dist-packages", "__pycache__"})


class ExternalFilesError(ValueError):
    """A directory whose migrations cannot be listed.

    Attributes:
        problems: Every one, as text.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def is_no_directory(path: Path) -> bool:
    """Return whether a path is anything but a directory, for tools that check only that: a dangling link passes."""
    return not path.is_dir()


def files_matching(
    pattern: str,
    *,
    example: str,
    nested: bool = False,
    links: bool = False,
    hidden: bool = False,
    refused: str | None = None,
    unique: Versioning | None = None,
    accepts: Callable[[Path], bool] = is_no_directory,
    rename: Callable[[str], str] = str,
) -> DirectoryLister:
    """Describe a directory with one file for each migration.

    Args:
        pattern: Matches the whole name of a migration's file. Its group `name` is what the ledger can know of it. Files
            with the same name and different groups `part` (up and down) are one migration.
        example: Name of such a file, for the message about a directory that has none.
        nested: Whether the tool searches subdirectories too, as far as they are not hidden.
        links: Whether it then follows links to directories.
        hidden: Whether the tool takes files whose names begin with a dot.
        refused: Matches names that are not those of migrations, and at which the tool stops with an error.
        unique: Makes the keys that must be unique: the tool stops at two files with the same. None where it does not.
        accepts: Returns whether the tool takes a path whose name matches.
        rename: Returns the name as the ledger records it.
    """

    def names(directory: Path) -> Iterable[str]:
        problems: list[str] = []
        found: list[str] = []
        first: dict[tuple[str, str | None], Path] = {}
        for path in sorted(walk(directory, links=links) if nested else directory.iterdir()):
            if path.name.startswith(".") and not hidden:
                continue
            match = re.fullmatch(pattern, path.name, re.DOTALL)
            if match is None:
                if refused and re.fullmatch(refused, path.name, re.DOTALL) and accepts(path):
                    problems.append(f"{path}: expected a name like {example}; the tool stops at any other")
            elif accepts(path):
                name = rename(match["name"])
                found.append(name)
                if unique is not None:
                    identity = unique.key(name), match.groupdict().get("part")
                    other = first.setdefault(identity, path)
                    if other is not path:
                        problems.append(f"{other} and {path} are one version, {identity[0]}: the tool stops at that")
        if problems:
            raise ExternalFilesError(*problems)
        return sorted(found)

    return partial(list_names, names, example)


def walk(directory: Path, *, links: bool = False, foreign: bool = True) -> Iterator[Path]:
    """Yield every file below a directory, but not those below hidden directories.

    Args:
        directory: Where to begin.
        links: Whether to follow links to directories.
        foreign: Whether to look into installed packages and virtual environments, too, and to fail at a directory that
            may not be read.

    Raises:
        OSError: A directory cannot be read.
    """

    def fail(error: OSError) -> None:
        if foreign or not isinstance(error, PermissionError):  # a project may have a database's files beside its own
            raise error

    seen: set[str] = set()
    for root, directories, files in os.walk(directory, onerror=fail, followlinks=links):
        if links:
            real = os.path.realpath(root)
            if real in seen:  # such as a link to a parent directory
                directories.clear()
                continue
            seen.add(real)
        if not foreign and "pyvenv.cfg" in files:  # a virtual environment
            directories.clear()
            continue
        left_out = () if foreign else _FOREIGN
        directories[:] = sorted(name for name in directories if not name.startswith(".") and name not in left_out)
        yield from (Path(root, name) for name in sorted(files))


def directories_containing(file: str, *, example: str) -> DirectoryLister:
    """Describe a directory with one subdirectory for each migration, all of which have this file."""

    def names(directory: Path) -> Iterable[str]:
        paths = sorted(path for path in directory.iterdir() if path.is_dir() and not path.is_symlink())
        empty = [path for path in paths if not (path / file).is_file()]
        if empty:
            raise ExternalFilesError(*(f"{path}: expected a {file} in it; the tool stops at that" for path in empty))
        return [path.name for path in paths]

    return partial(list_names, names, f"{example}/{file}")


def unlistable(problem: str) -> DirectoryLister:
    """Describe a directory whose files do not name the migrations.

    Args:
        problem: The message: why, and what the user can do instead.
    """

    def refuse(_directory: Path) -> Iterable[str]:
        raise ExternalFilesError(problem)

    return partial(list_names, refuse, "")


def list_names(names: Callable[[Path], Iterable[str]], example: str, directory: Path) -> tuple[str, ...]:
    """Return each name once.

    Args:
        names: Lists the names in an existing directory; may repeat some.
        example: The path of a migration, for the message about a directory that has none.
        directory: The directory.

    Raises:
        ExternalFilesError: The directory is missing, has no migrations, or cannot be listed; with every problem.
    """
    if not directory.is_dir():
        raise ExternalFilesError(f"expected a directory of migrations, found no {directory}; name it with --dir")
    try:
        found = tuple(dict.fromkeys(names(directory)))
    except OSError as error:
        raise ExternalFilesError(f"{error.filename}: expected to read it: {error.strerror}") from error
    if not found:
        raise ExternalFilesError(
            f"expected migrations like {example} in {directory}, found none; name the directory with --dir"
        )
    if strange := [name for name in found if not _is_text(name)]:
        raise ExternalFilesError(*(f"{directory}: expected names in UTF-8, got {name!r}" for name in strange))
    return found


def _is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8: Python decodes other bytes as lone surrogates."""
    return name.isascii() or not re.search("[\ud800-\udfff]", name)
