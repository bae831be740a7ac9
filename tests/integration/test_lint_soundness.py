"""PostgreSQL does with the histories of tests/lint_histories.py what lint says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations.lint.locks import locks
from migrations.lint.parser import parse_statements
from migrations.lint.schema import Schema
from testbed.postgres_versions import since
from tests.lint_harmless import HARMLESS
from tests.lint_histories import HAZARDS, LOCKS, MANY_REASONS
from tests.lint_server import STRONG, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

# For a finding of these rules PostgreSQL reads every row or builds an index, under a lock that blocks reads.
SCANS = {
    "type-change",
    "type-change-dependents",
    "domain-column",
    "volatile-default",
    "not-null-scan",
    "partition-scan",
}
# These histories name what other tools have made, or need an extension.
NOT_RUN = {"drop routine if exists of_another_tool;", "drop extension citext cascade;"}
RUN = [history for history in HAZARDS if history[2] not in NOT_RUN]
STATEMENTS = [
    "alter table a add column x int",
    "alter table a add column x bigint references b",
    "alter table a alter id set statistics 10",
    "alter table a set (fillfactor = 50)",
    "alter table a alter id set default 1",
    "alter table c drop constraint c_fk",
    "alter table c validate constraint c_fk",
    "alter table a add constraint f foreign key (id) references b not valid",
    "alter table a disable trigger a_t",
    "alter table a enable row level security",
    "alter table a rename to d",
    "alter table a rename id to number",
    "alter table a rename constraint a_pkey to k",
    "alter index a_pkey rename to k",
    "alter trigger a_t on a rename to t",
    "create table fresh (a_id bigint references a)",
    "create index on a (id)",
    "create trigger t before insert on a for each row execute function f()",
    "create rule r as on update to a do instead nothing",
    "create policy p on a",
    "create view v as select * from a",
    "drop trigger a_t on a",
    "drop table c",
    "drop index totals_one",
    "drop materialized view totals",
    "refresh materialized view totals",
    "refresh materialized view concurrently totals",
    "lock table a in share mode",
    "truncate a",
    "comment on table a is 'x'",
    "analyze a",
    "insert into b select id from a",
]


@pytest.mark.parametrize(("kind", "before", "sql", "rule"), [h for h in RUN if h[3] in SCANS])
async def test_a_scan_that_lint_finds_happens(
    connection: asyncpg.Connection[asyncpg.Record], kind: str, before: str, sql: str, rule: str
) -> None:
    """PostgreSQL reads every row, or builds an index, while it holds ACCESS EXCLUSIVE on a table of the first file."""
    await connection.execute(before)
    async with watched(connection) as session, connection.transaction():
        tables = await _tables(connection)
        await connection.execute(sql)
        held = {name for name, mode in await session.locks() if mode == "AccessExclusiveLock"}
        assert held & tables, kind
        # A default partition is read without a message where a new partition is created in place.
        assert session.scans_and_builds() or "partition of" in sql, (kind, rule)


@pytest.mark.parametrize(("kind", "before", "sql"), HARMLESS)
async def test_what_lint_takes_for_harmless_reads_no_row(
    connection: asyncpg.Connection[asyncpg.Record], kind: str, before: str, sql: str
) -> None:
    """No table of the first file is scanned, and none of its indexes is built."""
    await connection.execute(before)
    tables = await _tables(connection)
    async with watched(connection) as session, connection.transaction():
        await connection.execute(sql)
        assert [text for text in session.scans_and_builds() if any(f'"{name}"' in text for name in tables)] == [], kind


@pytest.mark.parametrize(("before", "sql", "kept"), MANY_REASONS)
async def test_a_swap_of_enums_rewrites_as_lint_says(
    connection: asyncpg.Connection[asyncpg.Record], before: str, sql: str, kept: list[str]
) -> None:
    """The swap rewrites the table where lint says so, and does nothing else to it."""
    await connection.execute(before)
    async with watched(connection) as session, connection.transaction():
        await connection.execute(sql)
        assert bool(session.scans_and_builds()) == ("type-change" in kept)


@pytest.mark.parametrize(("kind", "before", "sql", "rule"), [h for h in RUN if h[3] == "work-under-lock"])
async def test_work_is_done_while_another_table_is_locked(
    connection: asyncpg.Connection[asyncpg.Record], kind: str, before: str, sql: str, rule: str
) -> None:
    """The lock of the first statement is held when the last one begins."""
    await connection.execute(before)
    tables = await _tables(connection)
    async with watched(connection) as session, connection.transaction():
        *first, _ = parse_statements(sql)
        for statement in first:
            await connection.execute(statement.text)
        assert {name for name, mode in await session.locks() if mode in STRONG} & (tables | {"d"}), (kind, rule)


@pytest.mark.parametrize("sql", STATEMENTS)
async def test_lint_knows_every_strong_lock(connection: asyncpg.Connection[asyncpg.Record], sql: str) -> None:
    """The tables that pg_locks shows with a mode that blocks reads or writes are those that lint names."""
    await connection.execute(LOCKS)
    oids = {
        row["name"]: row["oid"] for row in await connection.fetch("select relname::text as name, oid from pg_class")
    }
    schema = Schema()
    for statement in parse_statements(LOCKS):
        schema.apply(statement.node, 0, None)
    (statement,) = parse_statements(sql)
    claimed = {(table.name, f"{mode.title().replace(' ', '')}Lock") for table, mode in locks(statement.node, schema)}
    async with watched(connection), connection.transaction():
        await connection.execute(sql)
        rows = await connection.fetch(
            "select relation, mode from pg_locks where pid = pg_backend_pid() and locktype = 'relation'"
        )
    names = {oid: name for name, oid in oids.items()}
    of_tables = {"a", "b", "c", "events", "totals"}
    strong = {
        (names[r["relation"]], r["mode"]) for r in rows if names.get(r["relation"]) in of_tables and r["mode"] in STRONG
    }
    assert {table for table, _ in claimed} == {table for table, _ in strong}
    assert claimed <= strong


@pytest.mark.parametrize(("kind", "before", "sql", "rule"), [h for h in RUN if h[0] == "drop-default"])
async def test_an_insert_of_an_older_image_fails_without_the_default(
    connection: asyncpg.Connection[asyncpg.Record], kind: str, before: str, sql: str, rule: str
) -> None:
    """It leaves out the column, as it could before."""
    await connection.execute(before)
    await connection.execute("insert into t default values")
    await connection.execute(sql)
    with pytest.raises(asyncpg.NotNullViolationError):
        await connection.execute("insert into t default values")
    assert rule, kind


@since(14, "CREATE OR REPLACE TRIGGER")
async def test_a_trigger_that_is_replaced_locks_out_writes(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """A trigger that is replaced takes the same lock as one that is created."""
    await connection.execute(LOCKS)
    async with watched(connection) as session, connection.transaction():
        await connection.execute("create or replace trigger a_t before insert on a for each row execute function f()")
        assert ("a", "ShareRowExclusiveLock") in await session.locks()


async def _tables(connection: asyncpg.Connection[asyncpg.Record]) -> set[str]:
    rows: Iterator[asyncpg.Record] = iter(
        await connection.fetch(
            "select relname::text as name from pg_class "
            "where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
        )
    )
    return {row["name"] for row in rows}
