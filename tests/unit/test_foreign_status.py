"""The status of another tool's migrations, whose ledger does not record what a file shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrations.core.drift import Verification, compare, verify_names
from migrations.core.ledger import Record, State
from migrations.core.migration import Migration, SectionBody
from migrations.core.revision import canonical
from migrations.dialects.catalogue import find_dialect

SUM = "ab" * 32


def statuses(name: str, directory: Path, files: dict[str, str], *records: Record) -> dict[str, str]:
    """Return the status of each revision, for a directory with these files and a ledger with these records."""
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    dialect = find_dialect(name)
    names = [canonical(name) for name in dialect.directory(directory)] if files else []
    migrations = [Migration(name, directory, "", SectionBody(None)) for name in names]
    rows = compare(migrations, dialect.build_ledger(records), is_elsewhere=dialect.find_elsewhere(names))
    return {row.revision: row.status.value for row in rows}


def verification(name: str, files: list[str], *records: Record) -> Verification:
    """Return how the names of files differ from a ledger with these records."""
    dialect = find_dialect(name)
    migrations = [Migration(name, Path(name), "", SectionBody(None)) for name in files]
    return verify_names(migrations, dialect.build_ledger(records), dialect.find_elsewhere(files))


def record(name: str, **more: object) -> Record:
    """Return the record of an applied revision."""
    return Record(name, State.APPLIED, **more)  # type: ignore[arg-type]


JOURNAL = '{"entries": [{"idx": 0, "when": 1700000000000, "tag": "a"}]}'


@pytest.mark.parametrize(
    ("dialect", "files", "name"),
    [
        ("prisma", {"20250101_a/migration.sql": ""}, "20250101_a"),
        ("drizzle", {"meta/_journal.json": JOURNAL, "a.sql": ""}, "1700000000000"),
        ("drizzle", {"20231114221320_a/migration.sql": ""}, "1700000000000"),
    ],
)
def test_a_checksum_of_a_tool_is_not_compared(dialect: str, files: dict[str, str], name: str, tmp_path: Path) -> None:
    """Each tool hashes its files in another way, so a checksum of a tool never makes a file count as changed."""
    assert statuses(dialect, tmp_path, files, record(name, checksum=SUM)) == {name: "applied"}
    assert statuses(dialect, tmp_path, files) == {name: "pending"}


def test_a_repeatable_migration_of_flyway_has_a_file(tmp_path: Path) -> None:
    """It is recorded by its description, in which blanks may stand for underscores; a new one is pending."""
    files = {"V1__a.sql": "", "sub/R__some view.sql": "", "R__new.sql": ""}
    found = statuses("flyway", tmp_path, files, record("1"), record("R__some_view"), record("R__gone"))
    assert found == {"V1__a": "applied", "R__some_view": "applied", "R__new": "pending", "R__gone": "missing"}


def test_what_a_baseline_includes_is_applied(tmp_path: Path) -> None:
    """A tool neither records nor runs what is older than its baseline, which itself has no file."""
    files = {"V1__a.sql": "", "V2__b.sql": "", "V4__c.sql": ""}
    found = statuses("flyway", tmp_path, files, record("3", baseline=True))
    assert found == {"V1__a": "applied", "V2__b": "applied", "3": "applied", "V4__c": "pending"}


def test_a_checkpoint_of_atlas_is_applied(tmp_path: Path) -> None:
    """A new database begins at its checkpoint, so older migrations count as applied."""
    files = {"1_a.sql": "", "2_b.sql": "-- atlas:checkpoint\n\n", "3_c.sql": ""}
    assert statuses("atlas", tmp_path, files, record("2", baseline=True), record("3")) == {
        "1_a": "applied",
        "2": "applied",
        "3_c": "applied",
    }


def test_an_application_that_is_installed_as_a_package_is_not_missing(tmp_path: Path) -> None:
    """Its files are elsewhere; those of the project's own applications are not."""
    files = {"shop/migrations/__init__.py": "", "shop/migrations/0001_a.py": "class Migration: ..."}
    names = ("auth.0001_initial", "shop.0001_a", "shop.0002_gone")
    assert statuses("django", tmp_path, files, *map(record, names)) == {
        "auth.0001_initial": "applied",
        "shop.0001_a": "applied",
        "shop.0002_gone": "missing",
    }


def test_nothing_is_missing_without_a_directory(tmp_path: Path) -> None:
    """A ledger may be shown where its project's files are not: then no record counts as missing."""
    assert statuses("knex", tmp_path / "nowhere", {}, record("a"), record("b")) == {"a": "applied", "b": "applied"}


@pytest.mark.parametrize(
    ("dialect", "files", "names", "missing", "ahead"),
    [
        ("goose", ["00001_a", "00003_c"], ["1", "2", "3", "4"], ["2"], ["4"]),
        (
            "rails",
            ["20250101000000_a", "20250103000000_c"],
            ["20250101000000", "20250102000000"],
            ["20250102000000"],
            [],
        ),
        ("dbmate", ["9_a", "10_b"], ["2", "9", "11"], ["2"], ["11"]),
        ("flyway", ["V1__a", "V10__b"], ["1", "9", "10", "11", "R__gone"], ["9", "R__gone"], ["11"]),
        ("typeorm", ["1700000000001-A"], ["Gone1600000000000", "A1700000000001"], ["Gone1600000000000"], []),
        ("golang-migrate", ["1_a", "3_c"], ["2"], ["2"], []),
        ("golang-migrate", ["1_a", "3_c"], ["4"], [], ["4"]),
        ("django", ["shop.0001_a"], ["auth.0001_x", "shop.0000_z", "shop.0001_a"], ["shop.0000_z"], []),
        ("yoyo", ["z", "b"], ["a", "z", "b", "y"], ["a"], ["y"]),
    ],
)
def test_an_applied_version_without_a_file_is_missing(
    dialect: str, files: list[str], names: list[str], missing: list[str], ahead: list[str]
) -> None:
    """A missing file is a problem, unless its version is newer than all files: then the ledger is ahead of them."""
    found = verification(dialect, files, *map(record, names))
    assert sorted(drift.revision for drift in found.drifts) == sorted(missing)
    assert (sorted(found.ahead), found.ok) == (sorted(ahead), not missing)


def test_a_failed_migration_of_a_tool_is_dirty_and_a_new_one_pending() -> None:
    """Both are reported, but only the failed one is a problem."""
    found = verification("flyway", ["V1__a", "V2__b"], Record("2", State.FAILED, error="boom"))
    assert ([drift.kind for drift in found.drifts], found.pending) == (["Dirty"], ("V1__a",))
