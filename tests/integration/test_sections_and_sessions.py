"""However a section is sent, it is recorded under the lock, in a session like new, and its errors name their cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import asyncpg

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

ROWS = "copy kept from stdin;\n1\n\\.\n"
LEAVES = "create temp table kept (id int);\nprepare p as select 1;\nset search_path = nowhere;\n"
NEEDS = "insert into kept values (7); prepare p as select 2"
VIOLATES = "insert into c values (1);\nselect 1;"
UNLOCK = "select pg_advisory_unlock_all();\n"
FORMS = {"rows at the end": "{}" + ROWS, "rows first": ROWS + "{}"}


@pytest.mark.parametrize("options", ["", "transaction:false"])
@pytest.mark.parametrize("form", ["rows at the end", "rows first"])
async def test_rows_leave_nothing_in_the_session(
    ledgergate: Ledgergate, connection: Connection, form: str, options: str
) -> None:
    """A migration after one with COPY sees no temporary table, statement or setting of it."""
    await connection.execute("create table kept (id int)")
    leaves = LEAVES if form == "rows at the end" else LEAVES.replace("temp table", "temp table if not exists")
    ledgergate.write("one", FORMS[form].format(leaves), options)
    ledgergate.write("two", NEEDS)
    done = ledgergate("up")
    assert done.returncode == 0, done.stderr
    found = await connection.fetchval("select array_agg(id order by id) from kept")
    assert found == ([7] if form == "rows at the end" else [1, 7])
    assert await connection.fetchval("select count(*) from ledgergate_migrations where state = 'applied'") == 2


@pytest.mark.parametrize("options", ["", "transaction:false"])
@pytest.mark.parametrize("form", ["rows at the end", "rows first"])
async def test_rows_of_a_migration_that_lets_go_of_the_lock(
    ledgergate: Ledgergate, connection: Connection, form: str, options: str
) -> None:
    """It has failed for that reason, and the rows are rolled back where it is one transaction."""
    await connection.execute("create table kept (id int)")
    ledgergate.write("one", FORMS[form].format(UNLOCK), options)
    done = ledgergate("up")
    assert done.returncode == 1
    assert "let go of the advisory lock" in done.stderr
    assert "_one.sql:" in done.stderr
    applied = "select count(*) from ledgergate_migrations where state = 'applied'"
    assert await connection.fetchval(applied) == 0
    if not options:
        assert await connection.fetchval("select count(*) from kept") == 0


@pytest.mark.parametrize("sql", [LEAVES, UNLOCK])
async def test_a_section_that_seems_open(ledgergate: Ledgergate, connection: Connection, sql: str) -> None:
    """Where the server accepts it as complete, its row is sent separately, with the same checks and the same reset."""
    await connection.execute("create table kept (id int)")
    await connection.execute(
        "do $$ begin execute format('alter database %I set standard_conforming_strings = off', current_database());"
        "end $$"
    )
    (ledgergate.directory / "20250101000000_one.sql").write_text(f"-- migrate:up\n{sql}select 'it\\'s';")
    ledgergate.write("20250101000001_two", NEEDS)
    done = ledgergate("up")
    if sql is UNLOCK:
        assert done.returncode == 1
        assert "let go of the advisory lock" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert await connection.fetchval("select array_agg(id) from kept") == [7]


@pytest.mark.parametrize("form", ["", ROWS])
async def test_an_attempt_after_a_failed_entry(ledgergate: Ledgergate, connection: Connection, form: str) -> None:
    """What an attempt that failed at the ledger has prepared does not fail the next one; the error names the ledger."""
    await connection.execute("create table kept (id int)")
    ledgergate.write("20250101000000_a", "select 1")
    assert ledgergate("up").returncode == 0
    await connection.execute(
        "create function busy() returns trigger language plpgsql as "
        "'begin raise exception using errcode = ''55P03''; end';"
        "create trigger busy before insert on ledgergate_migrations for each row execute function busy()"
    )
    ledgergate.write("20250101000001_b", f"prepare p as select 1;\n{form}")
    done = ledgergate("up", "--ddl-retry-timeout", "2")
    assert done.returncode == 1
    assert "its row in the ledger public.ledgergate_migrations could not be written" in done.stderr
    assert "tried" in done.stderr
    assert "already exists" not in done.stderr


def test_notices_of_a_second_attempt(ledgergate: Ledgergate) -> None:
    """A reset between two attempts does not end the report of notices, and none is about the reset."""
    raising = "do $$ begin raise notice 'here'; raise exception using errcode = '55P03'; end $$"
    ledgergate.write("20250101000000_a", f"prepare p as select 1; {raising}")
    done = ledgergate("up", "--ddl-retry-timeout", "3")
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if "NOTICE" in line or "WARNING" in line]
    assert len(lines) > 1
    assert set(lines) == {"20250101000000_a: NOTICE: here"}


def test_notices_after_a_reset_in_python(ledgergate: Ledgergate) -> None:
    """A reset that a Python migration requests does not end the report of notices either."""
    raising = "do $$ begin raise notice 'here'; end $$"
    ledgergate.write(
        "20250101000000_a.py",
        f"transaction = False\nasync def up(connection):\n    await connection.reset()\n"
        f"    await connection.execute({raising!r})\n",
    )
    done = ledgergate("up")
    assert done.returncode == 0, done.stderr
    assert "20250101000000_a: NOTICE: here" in done.stdout


@pytest.mark.parametrize("encoding", ["select 1", "set client_encoding = 'LATIN1'"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("20250101000001_b", ""), ("20250101000001_b", "transaction:false"), ("20250101000001_b.py", "")],
)
async def test_a_deferred_constraint_is_no_failure_of_the_ledger(
    ledgergate: Ledgergate, connection: Connection, name: str, options: str, encoding: str
) -> None:
    """COMMIT checks it after the row in the ledger was written; nothing of the migration is recorded."""
    await connection.execute(
        "create table c (id int); create function no() returns trigger language plpgsql as "
        "'begin raise ''zu groß''; end'; create constraint trigger no after insert on c deferrable "
        "initially deferred for each row execute function no()"
    )
    sql = f"{encoding};\n{VIOLATES}"
    if name.endswith(".py"):
        sql = f"async def up(connection):\n    await connection.execute({sql!r})\n"
    ledgergate.write(name, sql, options)
    done = ledgergate("up")
    assert done.returncode == 1
    assert "zu groß" in done.stderr
    assert "row in the ledger" not in done.stderr
    applied = "select count(*) from ledgergate_migrations where state = 'applied'"
    assert await connection.fetchval(applied) == 0
    assert await connection.fetchval("select count(*) from c") == 0
