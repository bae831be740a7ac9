"""Tools with files of one direction only: Drizzle, Atlas, Rails' structure.sql, and files of no known tool."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from migrations.core.migration import Problem
from migrations.lint.script import Script, TransactionMode
from migrations.lint.scripts.paired import one_section

if TYPE_CHECKING:
    from migrations.lint.scripts.tree import FileTree

DRIZZLE_JOURNAL = "meta/_journal.json"
STRUCTURE = re.compile(r"(?:.*_)?structure\.sql")
_ATLAS_MODE = re.compile(r"^--[ \t]*atlas:txmode[ \t]+none\b", re.MULTILINE)


def read_drizzle(tree: FileTree) -> list[Script]:
    """Return Drizzle's migrations in the order of its journal, all of which its migrator runs in one transaction.

    Source: https://orm.drizzle.team/docs/drizzle-kit-migrate, and `PgDialect.migrate` of drizzle-orm
    """
    own = "-- outside drizzle-kit, whose migrations all run in one transaction:"
    if DRIZZLE_JOURNAL not in tree.files:  # from version 1 on: NAME/migration.sql
        folders = [file for file in tree.files if file.count("/") == 1 and file.endswith("/migration.sql")]
        return [
            one_section(tree, file, file.partition("/")[0], TransactionMode.OWN, own_migration=own) for file in folders
        ]
    try:
        entries = json.loads(tree.text(DRIZZLE_JOURNAL))["entries"]
        names = [str(entry["tag"]) for entry in sorted(entries, key=lambda entry: int(entry["idx"]))]
    except (ValueError, KeyError, TypeError) as error:
        shown = tree.shown(DRIZZLE_JOURNAL)
        problem = Problem(shown, 0, f"expected a journal as drizzle-kit writes it: {error}")
        return [Script(shown, "", "", problems=(problem,))]
    return [one_section(tree, f"{name}.sql", name, TransactionMode.OWN, own_migration=own) for name in names]


def read_atlas(tree: FileTree) -> list[Script]:
    """Return Atlas's migrations: each in a transaction, unless a directive at its beginning says `txmode none`.

    Source: https://atlasgo.io/versioned/apply#transaction-configuration
    """
    own = "-- in a migration of its own, with the first line `-- atlas:txmode none`:"
    return [
        one_section(
            tree,
            file,
            file.removesuffix(".sql"),
            TransactionMode.NONE if _ATLAS_MODE.search(tree.text(file)) else TransactionMode.OWN,
            own_migration=own,
        )
        for file in tree.top()
    ]


def read_rails(tree: FileTree) -> list[Script]:
    """Return Rails' structure.sql, which psql loads into an empty database; migrations in Ruby are not read."""
    return [
        one_section(tree, file, file, TransactionMode.NONE, snapshot=True)
        for file in tree.top()
        if STRUCTURE.fullmatch(file)
    ]


def read_plain(tree: FileTree) -> list[Script]:
    """Return files that no tool is known to run, in the order of their names, numbers by their value."""
    files = tree.top() or [file for file in tree.files if file.endswith(".sql")]
    files = files or [file for file in tree.files if "." not in file]  # standard input
    own = "-- as a statement of its own, outside a transaction:"
    return [
        one_section(tree, file, file.removesuffix(".sql"), TransactionMode.UNKNOWN, own_migration=own)
        for file in sorted(files, key=_natural)
    ]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", name)]
