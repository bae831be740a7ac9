"""Migrations outside a transaction: how far they came is known, and what CONCURRENTLY leaves is cleared away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.integration.test_interruption import until
from tests.integration.test_up import exists, states

if TYPE_CHECKING:
    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

PROGRESS = (
    "select statements_total, statements_done, statement_begun from ledgergate_migrations order by id desc limit 1"
)
OUTSIDE = "transaction:false"
LONG_INDEX = "t_" + "long" * 15  # 62 bytes: the copy has no room for all of it
ACCENTED_INDEX = "é" * 31
ENDS = "select pg_terminate_backend(pid) from pg_stat_progress_create_index"


async def progress(connection: Connection) -> tuple[int | None, ...]:
    """Return the progress of the newest migration: statements in all, completed, and the one begun alone."""
    row = await connection.fetchrow(PROGRESS)
    assert row is not None
    return tuple(row)


async def test_up_goes_on_at_the_statement_that_failed(ledgergate: Ledgergate, connection: Connection) -> None:
    """What came before it is not repeated, but what it had set for the session is set again."""
    ledgergate.write(
        "one",
        "create table effects (name text);\n"
        "set search_path = elsewhere, public;\n"
        "insert into effects values ('before');\n"
        "insert into missing values ('after');\n"
        "insert into effects values ('last')",
        OUTSIDE,
    )
    done = ledgergate("up")
    assert done.returncode == 1
    assert '20250101000000_one.sql:5: relation "missing" does not exist' in done.stderr
    assert "up continues with it once the cause is removed" in done.stderr
    assert await progress(connection) == (5, 3, None)
    recorded = await connection.fetchval("select error from ledgergate_migrations where state = 'failed'")
    assert recorded.endswith('20250101000000_one.sql:5: relation "missing" does not exist')
    await connection.execute("create schema elsewhere; create table elsewhere.missing (name text)")
    again = ledgergate("up")
    assert (again.returncode, again.stderr) == (0, "")
    assert "continues after 3 completed statements" in again.stdout
    assert await progress(connection) == (5, 5, None)
    assert [row[0] for row in await connection.fetch("select name from effects")] == ["before", "last"]
    assert await connection.fetchval("select count(*) from elsewhere.missing") == 1
    assert await states(connection) == {"one": "applied"}


async def test_a_transaction_of_the_file_is_done_or_not(ledgergate: Ledgergate, connection: Connection) -> None:
    """A file that fails between BEGIN and COMMIT goes on at BEGIN."""
    ledgergate.write(
        "one",
        "create table effects (name text);\nbegin;\ninsert into effects values ('a');\n"
        "insert into missing values ('b');\ncommit;",
        OUTSIDE,
    )
    assert ledgergate("up").returncode == 1
    assert await progress(connection) == (5, 1, None)
    await connection.execute("create table missing (name text)")
    assert ledgergate("up").returncode == 0
    assert await connection.fetchval("select count(*) from effects") == 1
    assert await progress(connection) == (5, 5, None)


async def test_what_follows_a_rollback_is_not_repeated(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """A try that got no lock starts again after what is committed, whatever transactions the file has."""
    await connection.execute("create table effects (name text); create table busy (id int)")
    reader = await asyncpg.connect(database)
    await reader.execute("begin; select * from busy")
    ledgergate.write(
        "one",
        "begin;\ninsert into effects values ('gone');\nrollback;\ninsert into effects values ('once');\n"
        "begin;\ninsert into effects values ('also once');\nalter table busy add column note text;\ncommit;",
        OUTSIDE,
    )
    run = ledgergate.start("up", "--ddl-lock-timeout", "0.1")
    query = (
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"
    )
    for expected in ("select ", "select not "):
        await until(connection, query.replace("select ", expected, 1))
    await reader.close()
    output, errors = await asyncio.to_thread(run.communicate)
    assert (run.returncode, errors) == (0, "")
    assert "next attempt in" in output
    assert [row[0] for row in await connection.fetch("select name from effects")] == ["once", "also once"]


async def test_a_file_that_was_changed_does_not_go_on(ledgergate: Ledgergate, connection: Connection) -> None:
    """Statement numbers of another text mean nothing: refused with both checksums, until it is settled."""
    one = ledgergate.write("one", "create table one (id int);\nselect nonsense", OUTSIDE)
    assert ledgergate("up").returncode == 1
    recorded = await connection.fetchval("select checksum from ledgergate_migrations")
    one.write_text("-- migrate:up transaction:false\ncreate table one (id int);\nselect 1")
    done = ledgergate("up")
    assert done.returncode == 1
    assert f"has changed since: expected SHA-256 {recorded}" in done.stderr
    assert "resolve 20250101000000_one --rolled-back" in done.stderr
    await connection.execute("drop table one")
    assert ledgergate("resolve", "20250101000000_one", "--rolled-back").returncode == 0
    assert ledgergate("up").returncode == 0


async def test_an_invalid_index_is_named_dropped_and_built_again(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """A unique index that failed for duplicates leaves an INVALID one, which the next try clears away."""
    await connection.execute("create table t (id int); insert into t values (1), (1)")
    await connection.execute("create schema other; create table other.t (id int); insert into other.t values (1), (1)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("create unique index concurrently t_id on other.t (id)")
    ledgergate.write("one", "create unique index concurrently if not exists t_id on t (id)", OUTSIDE)
    assert ledgergate("up").returncode == 1
    assert await progress(connection) == (1, 0, None)
    assert not await connection.fetchval("select indisvalid from pg_index where indexrelid = 't_id'::regclass")
    await connection.execute("delete from t")
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'dropped "public"."t_id", an INVALID index' in done.stdout
    assert await connection.fetchval("select indisvalid from pg_index where indexrelid = 't_id'::regclass")
    assert await exists(connection, "other.t_id"), "one that the statement does not name"


async def kill_while_it_builds(ledgergate: Ledgergate, connection: Connection, database: str, index: str) -> None:
    """Send SIGKILL to `up` while it builds an index, which an old snapshot of `t` keeps from being completed."""
    old = await asyncpg.connect(database)
    try:
        await old.execute("begin isolation level repeatable read; select * from t")
        run = ledgergate.start("up")
        # This index, not just any that is being built: creating the ledger builds some too.
        await until(connection, f"select to_regclass('{index}') is not null")
        run.kill()
        run.communicate()
        await connection.execute(ENDS)  # PostgreSQL 13 would not notice by itself
        await until(connection, "select not exists (select from pg_stat_progress_create_index)")
    finally:
        await old.close()


async def test_what_is_killed_while_it_builds_an_index_is_built_again(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """SIGKILL in the middle of CREATE INDEX CONCURRENTLY: the next run drops what is INVALID and builds it."""
    await connection.execute("create table t (id int)")
    ledgergate.write("one", "create table one (id int);\ncreate index concurrently t_id on t (id)", OUTSIDE)
    await kill_while_it_builds(ledgergate, connection, database, "t_id")
    assert await progress(connection) == (2, 1, 2)
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'dropped "public"."t_id", an INVALID index' in done.stdout
    assert await connection.fetchval("select indisvalid from pg_index where indexrelid = 't_id'::regclass")
    assert await progress(connection) == (2, 2, None)


async def test_an_index_that_was_built_but_not_recorded_is_done(ledgergate: Ledgergate, connection: Connection) -> None:
    """A run that was killed after CREATE INDEX CONCURRENTLY, and before it was recorded, does not repeat it."""
    ledgergate.write(
        "one",
        "create table t (id int);\ncreate index concurrently t_id on t (id);\ndrop index concurrently t_id;\nselect 1",
        OUTSIDE,
    )
    assert ledgergate("up").returncode == 0
    for there, begun in ((True, 2), (False, 3)):
        await connection.execute("drop index if exists t_id" + ("; create index t_id on t (id)" if there else ""))
        await connection.execute(
            f"update ledgergate_migrations set state = 'running', statements_done = {begun - 1}, "  # noqa: S608 - ours
            f"statement_begun = {begun}"
        )
        done = ledgergate("up")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"continues after {begun} completed statements" in done.stdout
        assert not await exists(connection, "t_id")


@pytest.mark.parametrize(
    ("index", "copy"),
    [
        ("t_id", "t_id_ccnew"),
        (LONG_INDEX, f"{LONG_INDEX[:57]}_ccnew"),
        (ACCENTED_INDEX, f"{ACCENTED_INDEX[:28]}_ccnew"),
    ],
    ids=["short", "cut at 57 bytes", "cut before a character of two bytes"],
)
async def test_reindex_clears_its_copies_away(
    ledgergate: Ledgergate, connection: Connection, database: str, index: str, copy: str
) -> None:
    """REINDEX CONCURRENTLY that is interrupted leaves `_ccnew`; only copies of what the statement names are dropped."""
    await connection.execute(f"create table t (id int); create index {index} on t (id); create index t_other on t (id)")
    ledgergate.write("one", f"reindex index concurrently {index}", OUTSIDE)
    await kill_while_it_builds(ledgergate, connection, database, copy)
    await connection.execute("update pg_index set indisvalid = false where indexrelid = 't_other'::regclass")
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert f'dropped "public"."{copy}", an INVALID index' in done.stdout
    names = await connection.fetch("select relname from pg_class where relkind = 'i' and relname not like 'pg_%'")
    assert {index, "t_other"} <= {row[0] for row in names}
    assert copy not in {row[0] for row in names}


async def test_an_index_that_waits_for_old_transactions_is_not_hurried(
    ledgergate: Ledgergate, connection: Connection, database: str
) -> None:
    """CREATE INDEX CONCURRENTLY blocks no query while it waits, so lock_timeout does not apply to it."""
    await connection.execute("create table t (id int)")
    old = await asyncpg.connect(database, server_settings={"application_name": "backup"})
    await old.execute("begin isolation level repeatable read; select * from t")
    ledgergate.write("one", "create index concurrently t_id on t (id)", OUTSIDE)
    run = ledgergate.start("up", "--ddl-lock-timeout", "0.3", "--ddl-retry-timeout", "0")
    longer = "query like 'create index concurrently%' and clock_timestamp() - query_start > '0.9 s'"
    await until(connection, f"select exists (select from pg_stat_activity where {longer})")  # noqa: S608 - ours
    assert run.poll() is None
    await old.close()
    output, errors = await asyncio.to_thread(run.communicate)
    assert (run.returncode, errors) == (0, "")
    assert "waits for a lock on virtualxid" in output
    assert "backup" in output


async def test_what_the_server_refuses_in_a_transaction_runs_without(
    ledgergate: Ledgergate, connection: Connection
) -> None:
    """A DO block that commits in a procedure cannot be recognised beforehand, and runs all the same."""
    await connection.execute("create table effects (name text)")
    await connection.execute(
        "create procedure leave() language plpgsql as $$ begin insert into effects values ('x'); commit; end $$"
    )
    ledgergate.write("one", "do $$ begin call leave(); end $$;", OUTSIDE)
    done = ledgergate("up")
    assert (done.returncode, done.stderr) == (0, "")
    assert await connection.fetchval("select count(*) from effects") == 1


async def test_a_ledger_of_an_older_version_is_extended(ledgergate: Ledgergate, connection: Connection) -> None:
    """The columns of the progress are added where they are missing; reading a ledger does not need them."""
    ledgergate.write("one", "select 1")
    assert ledgergate("up").returncode == 0
    await connection.execute(
        "alter table ledgergate_migrations drop statements_total, drop statements_done, drop statement_begun"
    )
    assert ledgergate("status").returncode == 0
    ledgergate.write("two", "select 1", OUTSIDE)
    assert ledgergate("up").returncode == 0
    assert await progress(connection) == (1, 1, None)
