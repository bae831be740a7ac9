"""Tools of the JVM, Go, Rust and Ruby, each with its own ledger: what the tool has applied is what the reader finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.core.ledger import Position, State
from migrations.dialects.catalogue import find_dialect
from migrations.dialects.dialect import LedgerTable
from testbed.tools.maven import jvm
from testbed.tools.projects import PROJECTS
from testbed.tools.reading import snapshot
from testbed.tools.start import start
from testbed.tools.story import MIGRATIONS, Story

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.timeout(1500)  # the first test installs the tools, and may have to build them


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """The directory of a project's migrations."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    return directory


@pytest.mark.parametrize(
    ("name", "reverts"),
    [
        ("dbmate", True),
        ("flyway", False),  # the free edition takes nothing back
        ("goose", True),
        ("liquibase", True),
        ("rails", True),
        ("sqlx", True),
    ],
)
async def test_a_tools_ledger_is_read_as_the_tool_reads_it(
    name: str, reverts: bool, tmp_path: Path, migrations: Path, database: str
) -> None:
    """After some, after all, after an undo and after a failure, the ledger has what the tool applied and is clean."""
    files = PROJECTS[name](migrations, MIGRATIONS)
    with start(name, tmp_path, database) as tool:
        await Story(name, tool, files, database).tell(reverts=reverts)


async def test_golang_migrate_records_one_number(tmp_path: Path, migrations: Path, database: str) -> None:
    """Lower numbers are applied too; a dirty number concerns itself and higher ones, not lower ones."""
    files = PROJECTS["golang-migrate"](migrations, MIGRATIONS)
    versions = [name.partition("_")[0] for name, _, _ in MIGRATIONS]
    with start("golang-migrate", tmp_path, database) as tool:
        for act, count in (({"act": "to", "count": 2}, 2), ({"act": "to", "count": 3}, 3), ({"act": "down"}, 2)):
            answer = tool(**act)
            ledger = await snapshot("golang-migrate", database)
            assert (answer.error, answer.applied) == (None, [versions[count - 1]])
            assert (ledger.head, ledger.dirty) == (versions[count - 1], None)
            assert [ledger.contains(file) for file in files] == [place < count for place in range(4)]
            assert ledger.position_for(files[count - 1]) is Position.AT_HEAD
            assert ledger.position_for(files[0]) is Position.AHEAD
            assert ledger.is_complete_for(find_dialect("golang-migrate").declare(files[:count]))
        answer = tool("all")
        assert answer.error is not None
        ledger = await snapshot("golang-migrate", database)
        assert answer.applied == [versions[3]]
        assert ledger.dirty is not None
        assert (ledger.dirty.revision, ledger.dirty.state) == (versions[3], State.FAILED)
        assert [ledger.contains(file) for file in files] == [True, True, True, False]
        assert ledger.dirty_for(files[3]) is ledger.dirty
        assert ledger.dirty_for(files[2]) is None


async def test_a_migration_undone_by_an_older_goose_is_not_applied(
    tmp_path: Path, migrations: Path, database: str, connection: Connection
) -> None:
    """Older releases insert a row where newer ones delete one; the newest row of a version counts, for goose too."""
    files = PROJECTS["goose"](migrations, MIGRATIONS[:3])
    with start("goose", tmp_path, database) as tool:
        tool("all")
        await connection.execute("insert into goose_db_version (version_id, is_applied) values (20250101000003, false)")
        ledger = await snapshot("goose", database)
        assert list(ledger.applied) == tool("status").applied == ["20250101000001", "20250101000002"]
        assert not ledger.contains(files[2])


@pytest.mark.parametrize("kept", [True, False], ids=["row", "no row"])
async def test_flyway_may_record_a_failure_outside_a_transaction(
    kept: bool, tmp_path: Path, migrations: Path, database: str
) -> None:
    """By default the failure's row is rolled back with the transaction that holds the lock, and cannot be read."""
    files = PROJECTS["flyway"](migrations, MIGRATIONS)
    (migrations / f"{files[3]}.conf").write_text("executeInTransaction=false\n")
    with jvm("flyway", tmp_path, database, TRANSACTIONAL_LOCK=str(not kept).lower()) as tool:
        answer = tool("all")
        ledger = await snapshot("flyway", database)
        assert answer.error is not None
        assert list(ledger.applied) == answer.applied
        assert [ledger.contains(file) for file in files] == [True, True, True, False]
        assert (ledger.dirty and ledger.dirty.state) == (State.FAILED if kept else None)
        assert ledger.dirty_for(files[2]) is None
        for file in (files[1], files[3], f"{files[3]}.conf"):
            (migrations / file).unlink()
        answer = tool("repair")
        ledger = await snapshot("flyway", database)
        assert answer.error is None
        assert list(ledger.applied) == answer.applied == ["20250101000001", "20250101000003"]
        assert ledger.dirty is None


async def test_versions_up_to_a_baseline_of_flyway_are_applied(
    tmp_path: Path, migrations: Path, database: str, connection: Connection
) -> None:
    """A baseline is recorded in a database that existed before Flyway was used."""
    files = PROJECTS["flyway"](migrations, MIGRATIONS[:3])
    await connection.execute("create table first (); create table second ()")
    with start("flyway", tmp_path, database) as tool:
        assert tool("baseline").error is None  # at the second
        ledger = await snapshot("flyway", database)
        assert [ledger.contains(file) for file in files] == [True, True, False]
        assert tool("all").error is None
        ledger = await snapshot("flyway", database)
        assert [ledger.position_for(file) for file in files] == [Position.AHEAD, Position.AHEAD, Position.AT_HEAD]
        assert all(ledger.is_complete_for(find_dialect("flyway").declare(files[:known])) for known in (1, 2, 3))


async def test_a_repeatable_migration_of_flyway_has_no_version(tmp_path: Path, migrations: Path, database: str) -> None:
    """It is identified by its description, however often it ran, and is never the head."""
    files = PROJECTS["flyway"](migrations, MIGRATIONS[:2])
    view = migrations / "R__some_view.sql"
    with start("flyway", tmp_path, database) as tool:
        for text in ("select 1;\n", "select 2;\n"):
            view.write_text(text)
            assert tool("all").error is None
        ledger = await snapshot("flyway", database)
        assert ledger.applied == ("R__some_view", "20250101000001", "20250101000002")
        assert ledger.contains("R__some_view")
        expected = find_dialect("flyway").declare([*files, view.name])
        assert (expected.name, expected.count) == ("20250101000002", 3)
        assert ledger.is_complete_for(expected)
        assert not ledger.is_complete_for(find_dialect("flyway").declare([*files, view.name, "R__another_view.sql"]))


async def test_a_changeset_that_runs_always_is_not_newer(tmp_path: Path, migrations: Path, database: str) -> None:
    """Liquibase moves its row to the end each time; the newest changeset is still the head."""
    PROJECTS["liquibase"](migrations, MIGRATIONS[:3])
    changes = migrations / "changes.sql"
    changes.write_text(
        changes.read_text().replace("_first\n", "_first runAlways:true\n").replace("table", "table if not exists", 1)
    )
    with start("liquibase", tmp_path, database) as tool:
        for _ in range(2):
            answer = tool("all")
        ledger = await snapshot("liquibase", database)
        assert answer.applied[-1] == "changes.sql::20250101000001_first::ann"
        assert ledger.head == "changes.sql::20250101000003_third::ann"
        assert set(ledger.applied) == set(answer.applied)


async def test_a_partially_applied_migration_of_sqlx_is_dirty(
    tmp_path: Path, migrations: Path, database: str, connection: Connection
) -> None:
    """Sqlx then refuses to continue; the ledger is dirty for images that expect this revision or a newer one."""
    files = PROJECTS["sqlx"](migrations, MIGRATIONS[:3])
    with start("sqlx", tmp_path, database) as tool:
        tool("all")
        await connection.execute("update _sqlx_migrations set success = false where version = 20250101000003")
        assert "partially applied" in (tool("all").error or "")
        ledger = await snapshot("sqlx", database)
        assert (ledger.dirty and ledger.dirty.state) == State.FAILED
        assert ledger.dirty_for(files[2]) is ledger.dirty
        assert ledger.dirty_for(files[1]) is None
        # As its library does while it runs; the key is beyond 32 bits.
        (key,) = find_dialect("sqlx").lock_keys(
            LedgerTable(await connection.fetchval("select current_database()"), "public", "")
        )
        await connection.execute("select pg_advisory_lock($1)", key)
        ledger = await snapshot("sqlx", database)
        assert (ledger.dirty and ledger.dirty.state) == State.RUNNING
