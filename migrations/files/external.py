"""The migrations of another tool's directory: their names, oldest first, as the tool itself would find them.

ValueError
└── InventoryError   every problem of the directory at once
"""

from __future__ import annotations

import ast
import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_NUMBERED = r"(?P<name>[0-9]+_.+)"
_FILES: Mapping[str, str] = MappingProxyType(
    {
        # https://knexjs.org/guide/migrations.html, `loadExtensions`
        "knex": r"(?P<name>.+)\.(?:co|coffee|eg|iced|js|cjs|litcoffee|ls|ts)",
        "node-pg-migrate": r"(?P<name>[0-9]+[_-].+)\.(?:sql|js|cjs|mjs|ts|cts|mts)",
        "umzug": r"(?P<name>.+)\.(?:sql|js|cjs|mjs|ts|cts|mts)",
        "typeorm": r"(?P<name>[0-9]{10,}-.+)\.(?:js|cjs|mjs|ts|cts|mts)",
        "yoyo": r"(?P<name>(?!__).+(?<!\.rollback))\.(?:py|sql)",
        # https://documentation.red-gate.com/fd/migrations-184127470.html: V is a version, U undoes it, R is repeated
        "flyway": r"(?P<name>V.+__.*)\.(?:sql|java)",
        "golang-migrate": rf"{_NUMBERED}\.up\.[a-z]+",
        "goose": rf"{_NUMBERED}(?<!_test)\.(?:sql|go)",
        "dbmate": rf"{_NUMBERED}\.sql",
        "atlas": r"(?P<name>.+)\.sql",
        "pgroll": r"(?P<name>.+)\.(?:json|ya?ml)",
        "rails": rf"{_NUMBERED}\.rb",
        "ecto": rf"{_NUMBERED}\.exs",
        "sqlx": r"(?P<name>[0-9]+_.+?)(?<!\.down)(?:\.up)?\.sql",
    }
)
"""What a migration's file is called; what is left out of `name` the ledger does not know either."""
_NO_MIGRATION = re.compile(r"\..*|.*\.d\.[cm]?ts")
_NESTED = frozenset(("flyway",))  # whose tool looks into directories of the directory


class ExternalFilesError(ValueError):
    """A directory whose migrations cannot be named.

    Attributes:
        problems: All of them, in words.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def list_migrations(dialect: str, directory: Path) -> tuple[str, ...]:
    """Name the migrations of a directory, each once, oldest first; the last one is the newest.

    Args:
        dialect: Whose directory it is, as the catalogue names it.
        directory: Where the tool looks for migrations; for Django, the directory of the project.

    Raises:
        InventoryError: The directory is missing or has none, or it does not tell; with every problem.
    """
    if not directory.is_dir():
        raise ExternalFilesError(f"expected a directory of migrations, found no {directory}; name it with --dir")
    if dialect in _FILES:
        found = sorted(_files(dialect, directory))
    elif dialect in _READERS:
        found = list(_READERS[dialect](directory))
    else:
        raise ExternalFilesError(
            f"the files of {dialect} do not tell which migrations there are; name the newest one with --expect or "
            "--revision"
        )
    if not found:
        raise ExternalFilesError(
            f"expected migrations of {dialect} in {directory}, found none; name the place with --dir"
        )
    return tuple(dict.fromkeys(found))


def _files(dialect: str, directory: Path) -> Iterator[str]:
    pattern = re.compile(_FILES[dialect])
    for path in directory.rglob("*") if dialect in _NESTED else directory.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not _NO_MIGRATION.fullmatch(path.name) and path.is_file():
            yield match["name"]


def _prisma(directory: Path) -> Iterator[str]:
    return (path.name for path in sorted(directory.iterdir()) if (path / "migration.sql").is_file())


def _drizzle(directory: Path) -> Iterator[str]:
    """Give what the ledger keeps of each: the time at which it was generated, in milliseconds."""
    journal = directory / "meta" / "_journal.json"
    try:
        entries = json.loads(journal.read_text(encoding="utf-8"))["entries"]
        yield from (str(int(entry["when"])) for entry in sorted(entries, key=lambda entry: entry["idx"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExternalFilesError(f"expected {journal} as drizzle-kit writes it: {error}") from error


def _django(directory: Path) -> Iterator[str]:
    """Give APP.NAME of each; the order of apps is not in their names, and the ledger has none either."""
    for path in sorted(directory.rglob("migrations/[0-9]*_*.py"), key=lambda path: (path.stem[:4], path)):
        yield f"{path.parent.parent.name}.{path.stem}"


def _alembic(directory: Path) -> Iterator[str]:
    """Give the identifiers in an order in which each comes after those that it builds on."""
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
    done: dict[str, None] = {}
    while len(done) < len(parents):
        ready = sorted(name for name, needed in parents.items() if name not in done and done.keys() >= set(needed))
        if not ready:
            raise ExternalFilesError(f"expected revisions that build on each other, found a circle in {directory}")
        done |= dict.fromkeys(ready)
    return iter(done)


def _parents(directory: Path) -> tuple[dict[str, Sequence[str]], list[str]]:
    """Read what each file of Alembic says of itself, without running it."""
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
                    continue  # no constant: none that we look for
    return found


_READERS: Mapping[str, Callable[[Path], Iterator[str]]] = MappingProxyType(
    {"prisma": _prisma, "drizzle": _drizzle, "django": _django, "alembic": _alembic}
)
