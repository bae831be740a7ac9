"""Reading any ledger: found by its tables, read again only when it has changed, never created, locked or waited for."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from migrations.core.snapshot import ActiveMigration, Fault, LedgerSnapshot
from migrations.dialects.catalogue import CONCRETE_DIALECTS, find_dialect
from migrations.dialects.dialect import LedgerUnreadable
from migrations.dialects.native import NATIVE
from migrations.postgres import advisory_lock
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.postgres.errors import PermissionMissing, StatementFailed
from migrations.reader.reader import LedgerReader, LedgerSource, locate_ledger, read_ledger
from migrations.reader.watcher import LedgerWatcher, PollIntervals
from migrations.sql.statements import bind, load
from testbed.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrations.postgres.session import Session

    Connection = asyncpg.Connection[asyncpg.Record]

KNEX = "create table {} (id serial primary key, name text, batch int, migration_time timestamptz)"
SQL = {name: bind(text, table=NATIVE.relation()) for name, text in load("ledgergate").items()}


async def soon(condition: Callable[[], object]) -> None:
    """Wait until a condition is true, which the watcher's own task makes so."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a reading is a value, and has no event
            await asyncio.sleep(0.02)


def source(url: str, dialect: str, schema: str | None = None, table: str | None = None) -> LedgerSource:
    return LedgerSource(Address.from_url(url), find_dialect(dialect), schema, table)


async def test_ten_thousand_rows_are_read_once() -> None:
    """The first reading is two queries, each later one a single short one, until a row changes in whatever way."""
    with Postgres(log_statement="all", log_min_messages="log") as server:
        url = server.create_database()
        connection = await asyncpg.connect(url)
        await connection.execute(KNEX.format("knex_migrations"))
        insert = "insert into knex_migrations (name, batch) select 'm' || n, 1 from generate_series({}, {}) as n"
        await connection.execute(insert.format(1, 10_000))
        session = await connect(Address.from_url(url), timeout=10, application_name="reads")
        reader = LedgerReader(session, source(url, "knex"))
        seen = len(server.log)

        async def queries() -> list[str]:
            """Return the kinds of queries of one reading, without those of the transaction around it."""
            nonlocal seen
            ledger = await reader.read()
            assert len(ledger.applied) == await connection.fetchval("select count(*) from knex_migrations")
            log, seen = server.log[seen:], len(server.log)
            asked = re.findall(r"LOG:  execute <unnamed>: ((?:.|\n\t)*)", log)
            return ["rows" if "name, batch" in one else "mark" if "xmin" in one else "place" for one in asked]

        assert await queries() == ["place", "rows"]
        for _ in range(3):
            assert await queries() == ["mark"]
        changes = [
            insert.format(10_001, 10_001),
            "delete from knex_migrations where name = 'm5'",
            "update knex_migrations set name = 'x' where name = 'm6'",
            "delete from knex_migrations where name = 'm7'; insert into knex_migrations (name) values ('y')",
            "truncate knex_migrations",
            insert.format(1, 5),
        ]
        for change in changes:
            await connection.execute(change)
            # Without a row, one more query excludes that the table is the child of another.
            more = ["place"] if change.startswith("truncate") else []
            assert await queries() == ["mark", "rows", *more], change
            assert await queries() == ["mark"], change
        await session.close()
        await connection.close()


async def test_an_unchanged_ledger_is_read_fast(database: str, session: Session, connection: Connection) -> None:
    """Ten thousand rows, unchanged, cost a fraction of what it takes to read them."""
    await connection.execute(KNEX.format("knex_migrations"))
    await connection.execute("insert into knex_migrations (name) select 'm' || n from generate_series(1, 10000) as n")

    async def seconds(reader: LedgerReader) -> float:
        began = time.perf_counter()
        await reader.read()
        return time.perf_counter() - began

    followed = LedgerReader(session, source(database, "knex"))
    await followed.read()
    again = min([await seconds(followed) for _ in range(5)])
    whole = min([await seconds(LedgerReader(session, source(database, "knex"))) for _ in range(5)])
    assert again < whole / 3


async def test_what_has_not_changed_is_the_same_object(database: str, session: Session, connection: Connection) -> None:
    """While nothing that matters has changed, a reading returns the same object, which keeps what it has cached."""
    await connection.execute(KNEX.format("knex_migrations"))
    await connection.execute("insert into knex_migrations (name, batch) values ('a', 1)")
    reader = LedgerReader(session, source(database, "knex"))
    first = await reader.read()
    await connection.execute("update knex_migrations set id = id + 1")
    assert await reader.read() is first


async def test_a_late_commit_is_seen_whatever_it_balances(
    database: str, session: Session, connection: Connection
) -> None:
    """A transaction between two others is seen that replaces their rows and leaves the same count and sum of xmin."""
    await connection.execute(KNEX.format("knex_migrations"))
    insert = "insert into knex_migrations (name, batch) values ('{}', 1)"
    reader = LedgerReader(session, source(database, "knex"))
    await connection.execute(insert.format("a"))
    between = await asyncpg.connect(database)
    async with between.transaction():
        number = await between.fetchval("select txid_current()")
        await connection.execute(insert.format("b"))
        assert (await reader.read()).applied == ("a", "b")
        numbers = [row["xmin"] for row in await connection.fetch("select xmin::text::bigint from knex_migrations")]
        assert sum(numbers) == 2 * (number % 2**32)
        await between.execute("delete from knex_migrations")
        await between.execute(f"{insert.format('c')}; {insert.format('d')}")
    assert (await reader.read()).applied == ("c", "d")
    await between.close()


@pytest.mark.parametrize(
    "grant",
    [
        "create view ledger as select * from knex_migrations; grant select on ledger to app",
        "alter table knex_migrations rename to ledger; grant select (id, name, batch, migration_time) on ledger to app",
        "create materialized view ledger as select * from knex_migrations; grant select on ledger to app",
    ],
    ids=["view", "columns", "materialized"],
)
async def test_where_system_columns_cannot_be_read_the_rows_are(own_postgres: Postgres, grant: str) -> None:
    """A view, or a role that may see some columns only: every reading is whole, and right."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute(KNEX.format("knex_migrations"))
    await connection.execute("insert into knex_migrations (name, batch) values ('a', 1)")
    await connection.execute(f"create role app login password 'app'; {grant}")
    app = urlsplit(url)._replace(netloc=f"app:app@127.0.0.1:{own_postgres.port}").geturl()
    session = await connect(Address.from_url(app), timeout=10, application_name="reads")
    reader = LedgerReader(session, source(app, "knex", table="ledger"))
    assert (await reader.read()).applied == ("a",)
    base = "ledger" if "rename" in grant else "knex_migrations"
    await connection.execute(f"insert into {base} (name, batch) values ('b', 1)")  # noqa: S608
    if "materialized" in grant:
        await connection.execute("refresh materialized view ledger")
    assert (await reader.read()).applied == ("a", "b")
    await session.close()
    await connection.close()


async def test_a_schema_that_may_not_be_used_is_no_missing_table(own_postgres: Postgres) -> None:
    """Else a missing grant would look as if nothing had been applied."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute(KNEX.format("knex_migrations"))
    await connection.execute("create role app login password 'app'; revoke all on schema public from public")
    app = urlsplit(url)._replace(netloc=f"app:app@127.0.0.1:{own_postgres.port}").geturl()
    session = await connect(Address.from_url(app), timeout=10, application_name="reads")
    with pytest.raises(PermissionMissing):
        await read_ledger(session, source(app, "knex"))
    await session.close()
    await connection.close()


async def test_reading_creates_and_locks_nothing(database: str, session: Session, connection: Connection) -> None:
    """Every dialect on an empty database: an empty ledger, and the catalogue is as before."""
    objects = "select count(*) from pg_class"
    before = await connection.fetchval(objects)
    for dialect in [*CONCRETE_DIALECTS, find_dialect("auto")]:
        ledger = await read_ledger(session, LedgerSource(Address.from_url(database), dialect))
        assert ledger == dialect.parse_ledger([])
    assert await connection.fetchval(objects) == before
    held = (
        "select count(*) from pg_locks as l join pg_stat_activity as a using (pid) where a.application_name = 'reads'"
    )
    assert await connection.fetchval(held) == 0


async def test_a_locked_table_is_waited_for_no_longer_than_allowed(
    database: str, session: Session, connection: Connection
) -> None:
    """TRUNCATE, as golang-migrate does it, takes ACCESS EXCLUSIVE: the reading gives up in time and works again."""
    await connection.execute(KNEX.format("knex_migrations"))
    reader = LedgerReader(session, source(database, "knex"))
    await reader.read()
    async with connection.transaction():
        await connection.execute("truncate knex_migrations")
        began = time.monotonic()
        with pytest.raises(StatementFailed):
            await reader.read(limit=0.2)
        assert 0.2 <= time.monotonic() - began < 5
    assert (await reader.read()).applied == ()


async def test_what_could_not_be_read_is_read_the_next_time(
    database: str, session: Session, connection: Connection
) -> None:
    """A change whose reading failed, because of a row that the dialect never writes, is read again the next time."""
    await connection.execute(SQL["create"])
    await connection.execute(
        SQL["baseline"].replace("$1, $2, 0, 'applied', $3, $4", "'a', null, 0, 'applied', 'x', null")
    )
    reader = LedgerReader(session, source(database, "ledgergate"))
    assert (await reader.read()).applied == ("a",)
    await connection.execute("alter table ledgergate_migrations drop constraint ledgergate_migrations_state_check")
    await connection.execute("update ledgergate_migrations set state = 'odd'")
    for _ in range(3):
        with pytest.raises(LedgerUnreadable, match="no ledgergate ledger"):
            await reader.read()
    await connection.execute("update ledgergate_migrations set state = 'failed'")
    assert (await reader.read()).dirty is not None


async def test_a_role_that_may_not_see_locks_reads_the_ledger(own_postgres: Postgres) -> None:
    """The running migration is unknown then, and the ledger has no fault."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute(SQL["create"])
    await connection.execute("create role app login password 'app'; grant select on ledgergate_migrations to app")
    await connection.execute("revoke select on pg_catalog.pg_locks from public")
    app = urlsplit(url)._replace(netloc=f"app:app@127.0.0.1:{own_postgres.port}").geturl()
    reported: list[LedgerSnapshot] = []
    watcher = LedgerWatcher(source(app, "ledgergate"), on_change=reported.append, intervals=PollIntervals(urgent=0.05))
    watcher.urgent = True
    task = asyncio.create_task(watcher.run())
    await watcher.refresh(10)
    for _ in range(5):
        await watcher.refresh(10)
    assert [(snapshot.fault, snapshot.run) for snapshot in reported] == [(None, None)]
    task.cancel()
    await asyncio.wait([task])
    await connection.close()


async def test_a_table_that_comes_and_goes(database: str, session: Session, connection: Connection) -> None:
    """Missing, created, dropped, created elsewhere: each reading says what is there then."""
    reader = LedgerReader(session, source(database, "knex"))
    assert (await reader.read()).applied == ()
    for schema in ("other", "public"):
        await connection.execute(f"create schema if not exists {schema}")
        await connection.execute(f'alter database "{urlsplit(database).path[1:]}" set search_path = public, other')
        await session.execute("set search_path = public, other")
        await connection.execute(KNEX.format(f"{schema}.knex_migrations"))
        await connection.execute(f"insert into {schema}.knex_migrations (name) values ('{schema}')")  # noqa: S608
        assert (await reader.read()).applied == (schema,)
        assert reader.location is not None
        assert reader.location.table.schema == schema
        await connection.execute(f"drop table {schema}.knex_migrations")
        assert (await reader.read()).applied == ()


async def test_the_search_paths_first_table_is_the_ledger(
    database: str, session: Session, connection: Connection
) -> None:
    """The search path decides, as it does for the tools themselves; a named schema takes precedence."""
    await connection.execute("create schema app; create schema other")
    for schema in ("public", "app", "other"):
        await connection.execute(KNEX.format(f"{schema}.knex_migrations"))
        await connection.execute(f"insert into {schema}.knex_migrations (name) values ('{schema}')")  # noqa: S608
    await session.execute('set search_path = "$user", missing, "app", public')
    assert (await read_ledger(session, source(database, "knex"))).applied == ("app",)
    assert (await read_ledger(session, source(database, "knex", schema="other"))).applied == ("other",)
    assert (await locate_ledger(session, source(database, "auto"))).table.schema == "app"


async def test_two_ledgers_are_not_guessed_between(database: str, session: Session, connection: Connection) -> None:
    """`auto` names both; the dialect's own name decides."""
    await connection.execute(KNEX.format("knex_migrations"))
    await connection.execute("create table django_migrations (id int, app text, name text, applied timestamptz)")
    with pytest.raises(
        LedgerUnreadable, match=r"public.knex_migrations \(knex\) and public.django_migrations \(django\)"
    ):
        await read_ledger(session, source(database, "auto"))
    assert (await read_ledger(session, source(database, "knex"))).applied == ()


async def test_a_table_of_another_tool_is_refused(database: str, session: Session, connection: Connection) -> None:
    """The message says which columns are missing, and whose the table looks like."""
    await connection.execute("create table migrations (id int, migration text, batch int)")
    with pytest.raises(
        LedgerUnreadable, match=r"public.migrations is no typeorm ledger: it has no column name, timestamp"
    ):
        await read_ledger(session, source(database, "typeorm"))
    assert (await read_ledger(session, source(database, "auto"))).applied == ()


async def test_a_watcher_reports_a_run_while_pods_wait(database: str, connection: Connection) -> None:
    """The beginning and the end of a run are reported once each, although the ledger has not changed."""
    await connection.execute(SQL["create"])
    reported: list[LedgerSnapshot] = []
    took: list[float] = []
    intervals = PollIntervals(urgent=0.05, idle=60, slowest=60)
    watcher = LedgerWatcher(
        source(database, "ledgergate"), on_change=reported.append, on_read=took.append, intervals=intervals
    )
    task = asyncio.create_task(watcher.run())
    runner = await connect(
        Address.from_url(database), timeout=10, application_name=advisory_lock.application_name("pod-1")
    )
    async with advisory_lock.try_lock(runner, advisory_lock.lock_key(NATIVE.relation())):
        assert (await watcher.refresh(10)).fault is None
        assert watcher.snapshot.run is None  # no pod waits
        watcher.urgent = True
        await soon(lambda: watcher.snapshot.run)
        for _ in range(20):
            await watcher.refresh(10)
    await soon(lambda: watcher.snapshot.run is None)
    runs = [snapshot.run for snapshot in reported]
    assert [run and run.holder for run in runs] == [None, "pod-1", None]
    assert isinstance(runs[1], ActiveMigration)
    assert len(took) > 20
    assert all(0 < seconds < 3 for seconds in took)
    task.cancel()
    await asyncio.wait([task])
    await runner.close()


async def test_a_watcher_says_what_is_wrong_with_a_table(database: str, connection: Connection) -> None:
    """The detail, for the gate's status, says what is wrong; it ends when the table is corrected."""
    await connection.execute("create table knex_migrations (id int, name text)")
    watcher = LedgerWatcher(
        source(database, "knex"), on_change=lambda _: None, intervals=PollIntervals(retry=0.05, retry_slowest=0.1)
    )
    task = asyncio.create_task(watcher.run())
    await soon(lambda: watcher.snapshot.fault is Fault.LEDGER)
    assert watcher.snapshot.detail == "public.knex_migrations is no knex ledger: it has no column batch, migration_time"
    await connection.execute("alter table knex_migrations add batch int, add migration_time timestamptz")
    await soon(lambda: watcher.snapshot.fault is None)
    assert watcher.snapshot.detail == ""
    task.cancel()
    await asyncio.wait([task])
