"""Tools that keep each direction in a file of its own: golang-migrate, sqlx, Flyway, Diesel, Prisma."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from migrations.core.versioning import Versioning
from migrations.lint.script import Script, ScriptSection, TransactionMode

if TYPE_CHECKING:
    from migrations.lint.scripts.tree import FileTree

NUMBERED = re.compile(r"(?P<name>(?P<number>[0-9]+)_.*?)(?P<direction>\.up|\.down)?\.sql", re.DOTALL)
FLYWAY = re.compile(r"(?P<kind>[VUB](?P<version>[0-9]+(?:[._][0-9]+)*)(?:__.*)?|R__.*)\.sql", re.DOTALL | re.IGNORECASE)
_ALONE = "-- as the only statement of its migration, which then runs outside a transaction:"
_NO_TRANSACTION = "-- no-transaction"


def read_golang_migrate(tree: FileTree) -> list[Script]:
    """Return golang-migrate's migrations: it sends each file as one query.

    Source: https://github.com/golang-migrate/migrate/blob/master/database/postgres/README.md
    """
    found = sorted(
        (int(match["number"]), match["direction"] == ".down", file, match["name"])
        for file in tree.top()
        if (match := NUMBERED.fullmatch(file)) and match["direction"]
    )
    return [
        one_section(tree, file, name, TransactionMode.QUERY, is_down=is_down, own_migration=_ALONE)
        for _, is_down, file, name in found
    ]


def read_sqlx(tree: FileTree) -> list[Script]:
    """Return sqlx's migrations: each in a transaction, or with `-- no-transaction` at its beginning as one query.

    Source: https://docs.rs/sqlx/latest/sqlx/macro.migrate.html and `Migrate::apply` of sqlx-postgres
    """
    found = sorted(
        (int(match["number"]), match["direction"] == ".down", file, match["name"])
        for file in tree.top()
        if (match := NUMBERED.fullmatch(file))
    )
    own = f"-- as the only statement of its migration, below the first line `{_NO_TRANSACTION}`:"
    return [
        one_section(
            tree,
            file,
            name,
            TransactionMode.QUERY if tree.text(file).startswith(_NO_TRANSACTION) else TransactionMode.OWN,
            is_down=is_down,
            own_migration=own,
        )
        for _, is_down, file, name in found
    ]


def read_flyway(tree: FileTree) -> list[Script]:
    """Return Flyway's migrations: versions in their order, each with its undo, and then the repeatable ones.

    Source: https://documentation.red-gate.com/fd/migrations-184127470.html
    """
    found = []
    for file in tree.files:
        name = file.rpartition("/")[2]
        match = FLYWAY.fullmatch(name)
        if match is None:
            continue
        kind, version = name[0].upper(), match["version"]
        key = Versioning.DOTTED.sort_key(f"V{version}__") if version else ()
        found.append(((kind == "R", key if version else (), kind == "U", file), file, name[:-4], kind))
    own = "-- in a migration of its own, which Flyway runs outside a transaction:"
    return [
        one_section(tree, file, name, _flyway_mode(tree, file), is_down=kind == "U", own_migration=own)
        for _, file, name, kind in sorted(found, key=lambda entry: entry[0])
    ]


def _flyway_mode(tree: FileTree, file: str) -> TransactionMode:
    """Return the mode of a script, which a file `NAME.sql.conf` beside it may set."""
    settings = f"{file}.conf"
    if settings in tree.files and re.search(r"(?im)^\s*executeInTransaction\s*=\s*false\s*$", tree.text(settings)):
        return TransactionMode.NONE
    return TransactionMode.DETECTED


def read_diesel(tree: FileTree) -> list[Script]:
    """Return Diesel's migrations: each in a transaction, unless its metadata.toml says otherwise.

    Source: https://docs.rs/diesel_migrations/latest/diesel_migrations/struct.TomlMetadata.html
    """
    scripts = []
    for folder in _folders(tree, "up.sql"):
        mode = TransactionMode.OWN
        if f"{folder}/metadata.toml" in tree.files:
            try:
                metadata = tomllib.loads(tree.text(f"{folder}/metadata.toml"))
            except tomllib.TOMLDecodeError:
                metadata = {}
            mode = TransactionMode.OWN if metadata.get("run_in_transaction", True) else TransactionMode.QUERY
        own = "-- as the only statement of its up.sql, beside a metadata.toml with `run_in_transaction = false`:"
        for name, is_down in (("up.sql", False), ("down.sql", True)):
            if f"{folder}/{name}" in tree.files:
                file = f"{folder}/{name}"
                scripts.append(one_section(tree, file, folder, mode, is_down=is_down, own_migration=own))
    return scripts


def read_prisma(tree: FileTree) -> list[Script]:
    """Return Prisma's migrations: its engine sends each file as one query.

    Source: `SqlSchemaConnector::apply_script` of prisma-engines
    """
    return [
        one_section(tree, f"{folder}/migration.sql", folder, TransactionMode.QUERY, own_migration=_ALONE)
        for folder in _folders(tree, "migration.sql")
    ]


def _folders(tree: FileTree, file: str) -> list[str]:
    """Return the directories of migrations that have a file, in order."""
    return [path.removesuffix(f"/{file}") for path in tree.files if path.count("/") == 1 and path.endswith(f"/{file}")]


def one_section(
    tree: FileTree,
    file: str,
    revision: str,
    mode: TransactionMode,
    *,
    is_down: bool = False,
    own_migration: str = _ALONE,
    snapshot: bool = False,
) -> Script:
    """Return a file that is one section."""
    text, problems = tree.read(file)
    return Script(
        tree.shown(file),
        revision,
        text,
        (ScriptSection(text, 0, mode, is_down),),
        head=_head(text),
        own_migration=own_migration,
        snapshot=snapshot,
        problems=problems,
    )


def _head(text: str) -> int:
    """Return the length of the comments at the start of a file, if an empty line separates them from what follows."""
    match = re.match(r"(?:[ \t]*--[^\n]*\n)+[ \t\r]*(?=\n)", text)
    return match.end() if match else 0
