"""`ledgergate migrate baseline --from`: takes over the ledger of another tool."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from migrations.postgres import advisory_lock
from tests.integration.test_exec import KNEX
from tests.integration.test_foreign_views import ADD
from tests.integration.test_wait import line

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

ONE, TWO, THREE = "20250101000000_one", "20250101000001_two", "20250101000002_three"
WHEN = datetime(2025, 1, 26, 12, tzinfo=UTC)


@pytest.fixture
async def shop(ledgergate: Ledgergate, connection: Connection) -> Ledgergate:
    """A database that Knex has brought to `two`, and our files of it with one more."""
    for name in ("one", "two", "three"):
        ledgergate.write(name, f"create table {name} (id int)", down=f"drop table {name};")
    await connection.execute(KNEX)
    for name in (ONE, TWO):
        await connection.execute(f"create table {name[15:]} (id int)")
        await connection.execute(ADD, f"{name}.ts")
    return ledgergate


async def test_what_knex_has_applied_is_recorded_and_the_rest_is_run(shop: Ledgergate, connection: Connection) -> None:
    """Files match whatever their extensions; known times are kept; `up` goes on; `down` undoes only what `up` did."""
    heard: list[object] = []
    await connection.add_listener("ledgergate", lambda *arguments: heard.append(arguments[3]))
    done = shop("baseline", "--from", "knex")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"recorded {ONE}, which was not run" in done.stdout
    assert f"1 pending, which `ledgergate migrate up` applies: {THREE}" in done.stdout
    rows = await connection.fetch("select * from ledgergate_migrations order by revision")
    assert [(row["revision"], row["batch"], row["state"], len(row["checksum"])) for row in rows] == [
        (ONE, 0, "applied", 64),
        (TWO, 0, "applied", 64),
    ]
    assert {row["finished_at"] for row in rows} == {WHEN}
    assert heard == [TWO]
    again = shop("baseline", "--from", "auto", "--from-table", "public.knex_migrations")
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)
    assert shop("up").returncode == 0
    assert shop("verify").returncode == 0
    assert shop("down").stdout.count("undid") == 2
    assert await connection.fetchval("select count(*) from ledgergate_migrations") == 2


async def test_as_far_as_is_said(shop: Ledgergate, connection: Connection) -> None:
    """--to leaves newer revisions pending, even where the other tool has applied them; their files need not exist."""
    await connection.execute(ADD, "20250101000005_gone.js")
    assert shop("baseline", "--from", "knex", "--to", ONE).returncode == 0
    assert await connection.fetchval("select array_agg(revision) from ledgergate_migrations") == [ONE]


async def test_every_problem_is_reported_at_once(shop: Ledgergate, connection: Connection) -> None:
    """Records without a file, a target that is not applied, a changed file: exit 2, and nothing is recorded."""
    assert shop("baseline", "--to", ONE).returncode == 0
    await connection.execute(ADD, "20250101000005_gone.js")
    await connection.execute(ADD, "20240101000000_older.js")
    (shop.directory / f"{ONE}.sql").write_text("-- migrate:up\nselect 2;")
    done = shop("baseline", "--from", "knex")
    assert done.returncode == 2
    problems = done.stderr.splitlines()
    assert len(problems) == 3
    assert any("20250101000005_gone is recorded there, but has no file here" in problem for problem in problems)
    assert any("20240101000000_older is recorded there" in problem for problem in problems)
    assert any(f"{ONE}.sql was changed after the native ledger recorded it" in problem for problem in problems)
    assert "is applied there, got" in shop("baseline", "--from", "knex", "--to", THREE).stderr
    assert "to name one of the migrations" in shop("baseline", "--from", "knex", "--to", "x").stderr
    assert await connection.fetchval("select count(*) from ledgergate_migrations") == 1


async def test_by_the_digits_alone(ledgergate: Ledgergate, connection: Connection) -> None:
    """A ledger of version numbers is matched by number; two files of one version are a problem."""
    ledgergate.write("one", "select 1")
    await connection.execute("create table schema_migrations (version varchar primary key)")
    await connection.execute("insert into schema_migrations values ('20250101000000')")
    ledgergate.write("20250101000000_other", "select 1")
    done = ledgergate("baseline", "--from", "dbmate")
    assert done.returncode == 2
    assert "are one revision there: which of the two was applied?" in done.stderr
    (ledgergate.directory / "20250101000000_other.sql").unlink()
    assert ledgergate("baseline", "--from", "dbmate").returncode == 0
    assert await connection.fetchval("select array_agg(revision) from ledgergate_migrations") == [ONE]


async def test_what_cannot_be_taken_over(shop: Ledgergate, connection: Connection) -> None:
    """A missing ledger, one that records heads only, the native one and a dirty one: exit 2, and what to do."""
    assert "expected a flyway ledger in this database, found none" in shop("baseline", "--from", "flyway").stderr
    await connection.execute("create table alembic_version (version_num varchar(32) not null)")
    await connection.execute("insert into alembic_version values ('ae1027a6acf5')")
    done = shop("baseline", "--from", "alembic")
    assert done.returncode == 2
    assert "records the newest only (ae1027a6acf5): name the last of the files" in done.stderr
    assert shop("baseline", "--from", "ledgergate").returncode == 2
    assert shop("baseline", "--from-table", "x").returncode == 2
    await connection.execute("create table schema_migrations (version bigint primary key, dirty boolean not null)")
    await connection.execute("insert into schema_migrations values (20250101000001, true)")
    assert "settle it with its own tool" in shop("baseline", "--from", "golang-migrate").stderr


async def test_the_other_tool_is_kept_out(shop: Ledgergate, connection: Connection) -> None:
    """While `exec` runs the tool, the command waits; after the timeout exit 4 names the holder of the lock."""
    await connection.execute("set application_name = 'ledgergate pod-9'")
    await connection.fetchval("select pg_advisory_lock($1)", advisory_lock.lock_key('"public"."knex_migrations"'))
    done = shop("baseline", "--from", "knex", "--lock-timeout", "0.1")
    assert done.returncode == 4
    assert "it is held by pod-9" in done.stderr
    process = shop.start("baseline", "--from", "knex")
    try:
        line(process.stdout, "waiting for the lock, held by pod-9")
        await connection.execute("select pg_advisory_unlock_all()")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
