from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from migrations.cli.main import migrate
from migrations.core.ledger import Record, State
from migrations.dialects.catalogue import find_dialect
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "knex": (
        ["20250102000000_b.ts", "20250101000000_a.js", "20250101000000_a.js.map", ".keep", "20250102000000_b.d.ts"],
        ["20250101000000_a", "20250102000000_b"],
    ),
    "node-pg-migrate": (
        ["1700000000001_b.sql", "1700000000000_a.js", "README.md", "helper.js"],
        ["1700000000000_a", "1700000000001_b"],
    ),
    "sequelize": (
        ["20250101000000-a.js", "20250102000000-b.cjs", "20250101000000-a.down.sql"],
        ["20250101000000-a", "20250102000000-b"],
    ),
    "typeorm": (["1700000000000-Add.ts", "index.ts"], ["1700000000000"]),
    "prisma": (["20250101000000_a/migration.sql", "migration_lock.toml"], ["20250101000000_a"]),
    "yoyo": (["0001.a.py", "0001.a.rollback.sql", "0002.b.sql", "post-apply.sql"], ["0001.a", "0002.b"]),
    "flyway": (
        ["V10__c.sql", "V2__b.sql", "old/V1_1__a.sql", "U2__b.sql", "R__view.sql"],
        ["R__view", "1.1", "2", "10"],
    ),
    "golang-migrate": (["1_a.up.sql", "1_a.down.sql", "2_b.up.sql"], ["2"]),
    # Its command stops at the SQL files without a number above zero, its `Provider` leaves them out.
    "goose": (["00001_a.sql", "00002_b.go", "00002_b_test.go", "0_c.sql", "helper.sql", "3.sql"], ["1", "2"]),
    "dbmate": (["20250101000000_a.sql"], ["20250101000000"]),
    "rails": (["20250101000000_a.rb", "schema.rb"], ["20250101000000"]),
    "ecto": (["20250101000000_a.exs", ".formatter.exs"], ["20250101000000"]),
    "sqlx": (["1_a.up.sql", "1_a.down.sql", "2_b.sql"], ["1", "2"]),
    "atlas": (["20250101000000_a.sql", "20250102000000.sql", "atlas.sum"], ["20250101000000", "20250102000000"]),
    "pgroll": (["01_a.json", "02_b.yaml"], ["01_a", "02_b"]),
    "django": (
        ["shop/migrations/0001_initial.py", "shop/migrations/0002_more.py", "shop/migrations/__init__.py"],
        ["shop.0001_initial", "shop.0002_more"],
    ),
}
"""For each tool: files of its directory, and what its ledger records when all of them are applied."""


def fill(directory: Path, files: list[str]) -> Path:
    for name in files:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("class Migration: ..." if "/migrations/" in name and path.suffix == ".py" else "")
        if "/migrations/" in name:
            (path.parent / "__init__.py").touch()
    return directory


@pytest.mark.parametrize("dialect", FILES)
def test_what_an_image_declares_is_what_its_ledger_holds(tmp_path: Path, dialect: str) -> None:
    """The tool's ledger is complete for the revision that a build prints, and not when it lacks a record."""
    files, recorded = FILES[dialect]
    fill(tmp_path, files)
    declared = CliRunner().invoke(migrate, ["revision", "--dialect", dialect, "--dir", str(tmp_path)])
    assert declared.exit_code == 0, declared.output
    tool = find_dialect(dialect)
    expected = tool.declare(tool.directory(tmp_path))
    assert declared.output == f"{expected}\n"
    records = [Record(name, State.APPLIED) for name in recorded]
    assert tool.build_ledger(records).is_complete_for(expected)
    for missing in range(len(records)):
        rest = records[:missing] + records[missing + 1 :]
        assert not tool.build_ledger(rest).is_complete_for(expected), f"without {recorded[missing]}"


@pytest.mark.parametrize("dialect", FILES)
def test_the_example_in_the_message_is_a_migration(tmp_path: Path, dialect: str) -> None:
    """A directory without migrations is refused with an example of what the tool looks for."""
    directory = find_dialect(dialect).directory
    with pytest.raises(ExternalFilesError) as refused:
        directory(tmp_path)
    example = re.search("expected migrations like (.+) in ", str(refused.value))
    assert example
    assert directory(fill(tmp_path, [example[1]]))


def test_drizzle_is_listed_from_its_journal(tmp_path: Path) -> None:
    """The ledger records the time of each entry."""
    fill(tmp_path, ["meta/_journal.json", "a.sql", "b.sql"])
    journal = {
        "entries": [{"idx": 1, "when": 1700000000001, "tag": "b"}, {"idx": 0, "when": 1700000000000, "tag": "a"}]
    }
    (tmp_path / "meta" / "_journal.json").write_text(json.dumps(journal))
    assert find_dialect("drizzle").directory(tmp_path) == ("1700000000000", "1700000000001")
    (tmp_path / "meta" / "_journal.json").write_text("{}")
    with pytest.raises(ExternalFilesError, match="as drizzle-kit writes it"):
        find_dialect("drizzle").directory(tmp_path)


def alembic(directory: Path, **parents: str) -> Path:
    for revision, down in parents.items():
        (directory / f"{revision}_x.py").write_text(
            f"revision: str = {revision!r}\ndown_revision = {down}\nnow = print()\n"
        )
    return directory


def test_alembic_is_listed_from_its_files(tmp_path: Path) -> None:
    """Names are hashes: the head comes last, after everything that it builds on, which --ancestors prints."""
    alembic(tmp_path, z="None", b="'z'", c="'z'", a="('b', 'c')")
    assert find_dialect("alembic").directory(tmp_path) == ("z", "b", "c", "a")
    flags = ["revision", "--dialect", "alembic", "--dir", str(tmp_path)]
    assert CliRunner().invoke(migrate, flags).output == "a\n"
    assert CliRunner().invoke(migrate, [*flags, "--ancestors"]).output == "z,b,c\n"


def test_every_problem_of_alembic_is_reported_at_once(tmp_path: Path) -> None:
    """Two heads, a parent without a file and a file that is not Python are reported together; a cycle is too."""
    alembic(tmp_path, a="None", b="'a'", c="'gone'")
    (tmp_path / "bad.py").write_text("def")
    with pytest.raises(ExternalFilesError) as error:
        find_dialect("alembic").directory(tmp_path)
    assert len(error.value.problems) == 3
    assert "c builds on gone, which has no file" in str(error.value)
    assert "expected one head, found b and c" in str(error.value)
    cycle = tmp_path / "cycle"
    cycle.mkdir()
    with pytest.raises(ExternalFilesError, match="a cycle"):
        find_dialect("alembic").directory(alembic(cycle, a="'c'", b="'a'", c="'b'", head="'a'"))


def test_a_directory_that_cannot_be_listed(tmp_path: Path) -> None:
    """It is missing, empty, or of a tool whose files do not name its migrations: exit 2 with what is expected."""
    for dialect, words in (("knex", "found none"), ("liquibase", "do not name"), ("auto", "got auto")):
        with pytest.raises(ExternalFilesError, match=words):
            find_dialect(dialect).directory(tmp_path)
    done = CliRunner().invoke(migrate, ["revision", "--dialect", "knex", "--dir", str(tmp_path / "nowhere")])
    assert done.exit_code == 2
    assert "expected a directory of migrations" in done.output
