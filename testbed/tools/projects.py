"""The same migrations in the file formats of the tools of the JVM, Go, Rust and Ruby.

Each function writes migrations (name, up, down) into a directory and returns the names by which a pod may declare
them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from testbed.tools.story import MIGRATIONS

Migrations = Sequence[tuple[str, str, str]]


def flyway(directory: Path, migrations: Migrations = MIGRATIONS) -> list[str]:
    """Write files such as `V20250101000001__first.sql`; the free edition cannot undo a migration."""
    names = ("V{}__{}.sql".format(*name.split("_", 1)) for name, _, _ in migrations)
    return [_write(directory / name, f"{up};\n") for name, (_, up, _) in zip(names, migrations, strict=True)]


def liquibase(directory: Path, migrations: Migrations = MIGRATIONS) -> list[str]:
    """Write one file of changesets."""
    text = "--changeset ann:{}\n{};\n--rollback {};\n"
    changesets = "".join(text.format(*migration) for migration in migrations)
    _write(directory / "changes.sql", f"--liquibase formatted sql\n{changesets}")
    return [f"changes.sql::{name}::ann" for name, _, _ in migrations]


def goose(directory: Path, migrations: Migrations = MIGRATIONS) -> list[str]:
    """Write one file with two marked sections per migration."""
    return _marked(directory, migrations, "-- +goose Up\n{};\n-- +goose Down\n{};\n")


def dbmate(directory: Path, migrations: Migrations = MIGRATIONS) -> list[str]:
    """Write one file with two marked sections per migration."""
    return _marked(directory, migrations, "-- migrate:up\n{};\n-- migrate:down\n{};\n")


def paired(directory: Path, migrations: Migrations = MIGRATIONS) -> list[str]:
    """Write two files per migration (golang-migrate, sqlx)."""
    for name, up, down in migrations:
        _write(directory / f"{name}.up.sql", f"{up};\n")
        _write(directory / f"{name}.down.sql", f"{down};\n")
    return [f"{name}.up.sql" for name, _, _ in migrations]


def rails(directory: Path, migrations: Migrations = MIGRATIONS) -> list[str]:
    """Write one file with a class per migration."""
    text = "class {} < ActiveRecord::Migration[6.1]\n  def up = execute('{}')\n  def down = execute('{}')\nend\n"
    return [
        _write(directory / f"{name}.rb", text.format(name.partition("_")[2].title(), up, down))
        for name, up, down in migrations
    ]


PROJECTS: Mapping[str, Callable[[Path, Migrations], list[str]]] = MappingProxyType(
    {
        "dbmate": dbmate,
        "flyway": flyway,
        "golang-migrate": paired,
        "goose": goose,
        "liquibase": liquibase,
        "rails": rails,
        "sqlx": paired,
    }
)
"""By the dialect's name."""


def _marked(directory: Path, migrations: Migrations, text: str) -> list[str]:
    return [_write(directory / f"{name}.sql", text.format(up, down)) for name, up, down in migrations]


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return path.name
