"""Which tool's directory it is, and how that tool's files are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.lint.scripts.annotated import (
    GOOSE,
    NODE_PG_MIGRATE,
    SQL_MIGRATE,
    read_goose,
    read_node_pg_migrate,
    read_sql_migrate,
)
from migrations.lint.scripts.native import MARKER, read_dbmate, read_native
from migrations.lint.scripts.paired import (
    FLYWAY,
    NUMBERED,
    read_diesel,
    read_flyway,
    read_golang_migrate,
    read_prisma,
    read_sqlx,
)
from migrations.lint.scripts.single import (
    DRIZZLE_JOURNAL,
    STRUCTURE,
    read_atlas,
    read_drizzle,
    read_plain,
    read_rails,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrations.lint.script import Script
    from migrations.lint.scripts.tree import FileTree

_NATIVE_NAME = re.compile(r"[0-9]{14}_[^\s+]+\.(?:sql|py)", re.ASCII)
_ANCESTORS = 4
"""How many directories above the migrations may have the Cargo.toml of a Rust project."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tool keeps its migrations.

    Attributes:
        name: The value of `--dialect`, the same as that of a gate's dialect where the tool has a ledger.
        recognizes: Returns whether a directory is certainly the tool's.
        read: Returns its scripts in the order in which the tool applies them.
    """

    name: str
    recognizes: Callable[[FileTree], bool]
    read: Callable[[FileTree], list[Script]]


def _has_marked(pattern: re.Pattern[str]) -> Callable[[FileTree], bool]:
    return lambda tree: any(pattern.search(tree.text(file)) for file in _candidates(tree))


def _candidates(tree: FileTree) -> list[str]:
    """Return the files that may have comments by which a tool separates sections; standard input has no suffix."""
    return tree.top() or [file for file in tree.files if file.startswith("<")]


def _is_native(tree: FileTree) -> bool:
    """Return whether most files with markers have names as `ledgergate migrate new` makes them."""
    marked = [file for file in tree.top() if MARKER.search(tree.text(file))]
    named = [file for file in marked if _NATIVE_NAME.fullmatch(file)]
    modules = [file for file in tree.top(".py") if _NATIVE_NAME.fullmatch(file)]
    return len(named) * 2 > len(marked) if marked else any("def up(" in tree.text(file) for file in modules)


def _has_folders(file: str) -> Callable[[FileTree], bool]:
    return lambda tree: any(path.count("/") == 1 and path.endswith(f"/{file}") for path in tree.files)


def _is_drizzle(tree: FileTree) -> bool:
    return DRIZZLE_JOURNAL in tree.files or (
        _has_folders("migration.sql")(tree) and _has_folders("snapshot.json")(tree)
    )


def _is_flyway(tree: FileTree) -> bool:
    names = (path.rpartition("/")[2] for path in tree.files)
    return any("__" in name and FLYWAY.fullmatch(name) for name in names)


def _is_paired(tree: FileTree) -> bool:
    return any((match := NUMBERED.fullmatch(file)) and match["direction"] == ".up" for file in tree.top())


def _is_sqlx(tree: FileTree) -> bool:
    """Return whether numbered files belong to a Rust project, or one begins with sqlx's `-- no-transaction`."""
    numbered = [file for file in tree.top() if NUMBERED.fullmatch(file)]
    if not numbered:
        return False
    root = tree.root.absolute()
    rust = any((folder / "Cargo.toml").is_file() for folder in (root, *root.parents[:_ANCESTORS]))
    return rust or any(tree.text(file).startswith("-- no-transaction") for file in numbered)


LAYOUTS = (
    Layout("drizzle", _is_drizzle, read_drizzle),
    Layout("prisma", _has_folders("migration.sql"), read_prisma),
    Layout("diesel", _has_folders("up.sql"), read_diesel),
    Layout("flyway", _is_flyway, read_flyway),
    Layout("goose", _has_marked(GOOSE), read_goose),
    Layout("sql-migrate", _has_marked(SQL_MIGRATE), read_sql_migrate),
    Layout("ledgergate", _is_native, read_native),
    Layout("dbmate", _has_marked(MARKER), read_dbmate),
    Layout("node-pg-migrate", _has_marked(NODE_PG_MIGRATE), read_node_pg_migrate),
    Layout("sqlx", _is_sqlx, read_sqlx),
    Layout("golang-migrate", _is_paired, read_golang_migrate),
    Layout("atlas", lambda tree: "atlas.sum" in tree.files, read_atlas),
    Layout("rails", lambda tree: any(map(STRUCTURE.fullmatch, tree.top())), read_rails),
    Layout("plain", lambda tree: any(file.endswith(".sql") or file[0] == "<" for file in tree.files), read_plain),
)
"""Every layout, the most certain sign first: `detect` takes the first that recognizes a directory."""
NAMES = tuple(sorted(layout.name for layout in LAYOUTS))
AUTO = "auto"


def detect(tree: FileTree) -> Layout | None:
    """Return the layout that a directory shows; None where lint would read no file of it."""
    return next((layout for layout in LAYOUTS if layout.recognizes(tree)), None)


def find_layout(name: str) -> Layout:
    """Return the layout of a name among NAMES."""
    return next(layout for layout in LAYOUTS if layout.name == name)
