"""The tools of the JVM, Go, Rust and Ruby, each at its own ledger: what they say is applied is what we read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tools.debian import rails
from tests.tools.maven import jvm
from tests.tools.programs import program
from tests.tools.story import MIGRATIONS, Story, Write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def _flyway(directory: Path) -> list[str]:
    names = ("V{}__{}.sql".format(*name.split("_")) for name, _, _ in MIGRATIONS)
    return [_write(directory / name, f"{up};\n") for name, (_, up, _) in zip(names, MIGRATIONS, strict=True)]


def _liquibase(directory: Path) -> list[str]:
    text = "--changeset ann:{}\n{};\n--rollback {};\n"
    sets = "".join(text.format(*migration) for migration in MIGRATIONS)
    _write(directory / "changes.sql", f"--liquibase formatted sql\n{sets}")
    return [f"changes.sql::{name}::ann" for name, _, _ in MIGRATIONS]


def _goose(directory: Path) -> list[str]:
    return _marked(directory, "-- +goose Up\n{};\n-- +goose Down\n{};\n")


def _dbmate(directory: Path) -> list[str]:
    return _marked(directory, "-- migrate:up\n{};\n-- migrate:down\n{};\n")


def _paired(directory: Path) -> list[str]:
    for name, up, down in MIGRATIONS:
        _write(directory / f"{name}.up.sql", f"{up};\n")
        _write(directory / f"{name}.down.sql", f"{down};\n")
    return [f"{name}.up.sql" for name, _, _ in MIGRATIONS]


def _rails(directory: Path) -> list[str]:
    text = "class {} < ActiveRecord::Migration[6.1]\n  def up = execute('{}')\n  def down = execute('{}')\nend\n"
    return [
        _write(directory / f"{name}.rb", text.format(name.partition("_")[2].title(), up, down))
        for name, up, down in MIGRATIONS
    ]


def _marked(directory: Path, text: str) -> list[str]:
    return [_write(directory / f"{name}.sql", text.format(up, down)) for name, up, down in MIGRATIONS]


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return path.name


@pytest.fixture
def migrations(tmp_path: Path) -> Iterable[Path]:
    """The directory of a project's migrations."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    return directory


@pytest.mark.parametrize(("name", "write"), [("goose", _goose), ("dbmate", _dbmate), ("sqlx", _paired)])
async def test_a_programs_ledger_is_read_as_the_program_reads_it(
    name: str, write: Write, tmp_path: Path, migrations: Path, database: str
) -> None:
    """Some, all, one taken back, one that fails: each time what the tool says is applied, and nothing is dirty."""
    files = write(migrations)
    with program(name, tmp_path, database) as tool:
        await Story(name, tool, files, database).tell()


async def test_flyways_ledger_is_read_as_flyway_reads_it(tmp_path: Path, migrations: Path, database: str) -> None:
    """The free edition takes nothing back."""
    files = _flyway(migrations)
    with jvm("flyway", tmp_path, database) as tool:
        await Story("flyway", tool, files, database).tell(reverts=False)


async def test_liquibases_ledger_is_read_as_liquibase_reads_it(tmp_path: Path, migrations: Path, database: str) -> None:
    """A changeset is its file, its id and its author."""
    files = _liquibase(migrations)
    with jvm("liquibase", tmp_path, database) as tool:
        await Story("liquibase", tool, files, database).tell()


async def test_rails_ledger_is_read_as_rails_reads_it(tmp_path: Path, migrations: Path, database: str) -> None:
    """It has a table of the same name and columns as dbmate's; what tells them apart is the table beside it."""
    files = _rails(migrations)
    with rails(tmp_path, database) as tool:
        await Story("rails", tool, files, database).tell()
