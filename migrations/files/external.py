"""Functions that list the migrations of another tool's directory: their names, oldest first, in the tool's own order.

A dialect describes its tool's directory with one of them, see `Dialect.directory`.

ValueError
└── ExternalFilesError   every problem of the directory at once
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    DirectoryLister = Callable[[Path], tuple[str, ...]]

NUMBERED = r"(?P<name>[0-9]+_.+)"
"""A name that begins with a number, as most tools generate it."""
_NO_MIGRATION = re.compile(r"\..*|.*\.d\.[cm]?ts")  # hidden files, and TypeScript's declarations


class ExternalFilesError(ValueError):
    """A directory whose migrations cannot be listed.

    Attributes:
        problems: Every one, as text.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def files_matching(pattern: str, *, example: str, nested: bool = False) -> DirectoryLister:
    """Describe a directory with one file for each migration.

    Args:
        pattern: Matches the whole name of a migration's file. Its group `name` is what the ledger can know of it.
        example: Name of such a file, for the message about a directory that has none.
        nested: Whether the tool searches subdirectories too.
    """

    def names(directory: Path) -> Iterable[str]:
        paths = directory.rglob("*") if nested else directory.iterdir()
        matches = ((path, re.fullmatch(pattern, path.name)) for path in paths)
        return sorted(
            match["name"]
            for path, match in matches
            if match and not _NO_MIGRATION.fullmatch(path.name) and path.is_file()
        )

    return partial(_list, names, example)


def directories_containing(file: str, *, example: str) -> DirectoryLister:
    """Describe a directory with one subdirectory for each migration, in which there is this file."""

    def names(directory: Path) -> Iterable[str]:
        return sorted(path.name for path in directory.iterdir() if (path / file).is_file())

    return partial(_list, names, f"{example}/{file}")


def unlistable(problem: str) -> DirectoryLister:
    """Describe a directory whose files do not name the migrations.

    Args:
        problem: The message: why, and what the user can do instead.
    """

    def refuse(_directory: Path) -> Iterable[str]:
        raise ExternalFilesError(problem)

    return partial(_list, refuse, "")


def drizzle(directory: Path) -> tuple[str, ...]:
    """List Drizzle's migrations by what its ledger keeps: when each was generated, in milliseconds since 1970."""
    return _list(_drizzle, "meta/_journal.json", directory)


def django(directory: Path) -> tuple[str, ...]:
    """List a Django project's migrations as APP.NAME.

    The order between applications is a graph of dependencies, which names do not show and a comparison does not need.

    Source: https://docs.djangoproject.com/en/stable/topics/migrations/, "Migration files"
    """
    return _list(_django, "APP/migrations/0001_initial.py", directory)


def alembic(directory: Path) -> tuple[str, ...]:
    """List Alembic's revision identifiers so that each comes after all that it is based on.

    Source: https://alembic.sqlalchemy.org/en/latest/tutorial.html, "Create a Migration Script"
    """
    return _list(_alembic, "1975ea83b712_add_users.py", directory)


def _list(names: Callable[[Path], Iterable[str]], example: str, directory: Path) -> tuple[str, ...]:
    """Return each name once.

    Raises:
        ExternalFilesError: The directory is missing, has no migrations, or cannot be listed; with every problem.
    """
    if not directory.is_dir():
        raise ExternalFilesError(f"expected a directory of migrations, found no {directory}; name it with --dir")
    found = tuple(dict.fromkeys(names(directory)))
    if not found:
        raise ExternalFilesError(
            f"expected migrations like {example} in {directory}, found none; name the directory with --dir"
        )
    return found


def _drizzle(directory: Path) -> Iterator[str]:
    import json  # noqa: PLC0415 - most commands list no such directory

    journal = directory / "meta" / "_journal.json"
    try:
        entries = json.loads(journal.read_text(encoding="utf-8"))["entries"]
        yield from (str(int(entry["when"])) for entry in sorted(entries, key=lambda entry: entry["idx"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExternalFilesError(f"expected {journal} as drizzle-kit writes it: {error}") from error


def _django(directory: Path) -> Iterator[str]:
    for path in sorted(directory.rglob("migrations/[0-9]*_*.py"), key=lambda path: (path.stem[:4], path)):
        yield f"{path.parent.parent.name}.{path.stem}"


def _alembic(directory: Path) -> Iterator[str]:
    parents, problems = _parents(directory)
    problems += [
        f"{revision} builds on {parent}, which has no file in {directory}"
        for revision, needed in parents.items()
        for parent in needed
        if parent not in parents
    ]
    heads = parents.keys() - {parent for needed in parents.values() for parent in needed}
    if len(heads) > 1:
        problems.append(f"expected one head, found {' and '.join(sorted(heads))}; `alembic merge heads` joins them")
    if problems:
        raise ExternalFilesError(*problems)
    # A topological sort. Those that could come next are sorted, so that the result depends on the files alone.
    done: dict[str, None] = {}
    while len(done) < len(parents):
        ready = sorted(name for name, needed in parents.items() if name not in done and done.keys() >= set(needed))
        if not ready:
            raise ExternalFilesError(f"expected revisions that build on each other, found a cycle in {directory}")
        done |= dict.fromkeys(ready)
    return iter(done)


def _parents(directory: Path) -> tuple[dict[str, Sequence[str]], list[str]]:
    """Read `revision` and `down_revision` from every file without running it; also return what is wrong with files."""
    parents: dict[str, Sequence[str]] = {}
    problems = []
    for path in sorted(directory.glob("[!_]*.py")):
        try:
            constants = _constants(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError) as error:
            problems.append(f"{path}: expected Python: {error}")
            continue
        revision, down = constants.get("revision"), constants.get("down_revision")
        if isinstance(revision, str):
            parents[revision] = () if down is None else (down,) if isinstance(down, str) else tuple(down)
    return parents, problems


def _constants(text: str) -> dict[str, Any]:
    """Return what the module assigns at its top level, as far as it is literal."""
    import ast  # noqa: PLC0415 - most commands list no such directory

    found = {}
    for node in ast.parse(text).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                try:
                    found[target.id] = ast.literal_eval(node.value)
                except ValueError:
                    continue  # an expression; `revision` and `down_revision` are literals
    return found
