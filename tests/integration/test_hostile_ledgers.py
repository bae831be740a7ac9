"""A table that no migration tool has written: whatever it holds is the fault of that ledger, and of nothing else."""

from __future__ import annotations

import asyncio
import json
import struct
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from migrations.core.snapshot import Fault
from migrations.dialects.catalogue import find_dialect
from migrations.dialects.native import NATIVE
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.postgres.errors import AnswerUnreadable
from migrations.reader import reader
from migrations.reader.reader import LedgerSource
from migrations.reader.watcher import LedgerWatcher, PollIntervals
from migrations.sql.statements import bind, load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

SQL = {name: bind(text, table=NATIVE.relation()) for name, text in load("ledgergate").items()}
TABLES = {
    "knex": "create table knex_migrations (id serial primary key, name text, batch int, migration_time timestamptz)",
    "django": "create table django_migrations (id serial, app text, name text, applied timestamptz)",
    "yoyo": "create table _yoyo_migration (migration_hash text, migration_id text, applied_at_utc timestamp)",
    "prisma": "create table _prisma_migrations (migration_name text, checksum text, logs text, "
    "started_at timestamptz, finished_at timestamptz, rolled_back_at timestamptz)",
}
TIMED = {
    "knex": "insert into knex_migrations (name, batch, migration_time) values ('a', 1, $1::text::timestamptz)",
    "django": "insert into django_migrations (app, name, applied) values ('app', 'a', $1::text::timestamptz)",
    "yoyo": "insert into _yoyo_migration values ('h', 'a', $1::text::timestamp)",
    "prisma": "insert into _prisma_migrations values ('a', 'c', null, $1::text::timestamptz, $1::text::timestamptz)",
    "ledgergate": "insert into ledgergate_migrations (revision, batch, state, applied_by, started_at, finished_at) "
    "values ('a', 1, 'applied', 'x', $1::text::timestamptz, $1::text::timestamptz)",
}
TIMES = ("12026-01-01", "294276-12-31 00:00", "0044-03-15 BC", "4713-01-01 BC", "infinity", "-infinity")


@asynccontextmanager
async def watching(url: str, dialect: str = "ledgergate", **intervals: float) -> AsyncIterator[LedgerWatcher]:
    """A watcher that reads all the time; its task must be alive at the end."""
    source = LedgerSource(Address.from_url(url), find_dialect(dialect))
    watcher = LedgerWatcher(source, on_change=lambda _: None, intervals=PollIntervals(idle=0.05, **intervals))
    task = asyncio.create_task(watcher.run())
    try:
        yield watcher
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(watcher: LedgerWatcher, fault: Fault | None) -> None:
    """Wait until the watcher's snapshot has this fault, or none."""
    async with asyncio.timeout(60):
        while watcher.snapshot.fault is not fault:  # noqa: ASYNC110 - a snapshot is a value, and has no event
            await asyncio.sleep(0.02)


async def create(connection: Connection, dialect: str) -> None:
    await connection.execute(TABLES.get(dialect, SQL["create"]))


@pytest.mark.parametrize("dialect", TIMED)
async def test_a_time_that_python_lacks_is_no_time(dialect: str, database: str, connection: Connection) -> None:
    """Beyond year 9999, before year 1 and at infinity: the ledger is read, and only the time is unknown."""
    await create(connection, dialect)
    for time in TIMES:
        await connection.execute(TIMED[dialect], time)
        async with watching(database, dialect) as watcher:
            await until(watcher, None)
            assert watcher.snapshot.ledger is not None
            (record,) = watcher.snapshot.ledger.records
            assert (record.started_at, record.finished_at) == (None, None), time
        table = TIMED[dialect].split()[2]
        await connection.execute(f"truncate {table}")


async def test_commands_read_such_times(ledgergate: Ledgergate, connection: Connection) -> None:
    """Such a time in the row of a running migration breaks no command either."""
    await connection.execute(SQL["create"])
    await connection.execute(TIMED["ledgergate"], "294276-12-31")
    await connection.execute("update ledgergate_migrations set state = 'running'")
    for command in (("status",), ("status", "--json"), ("verify",), ("wait", "--revision", "a", "--timeout", "0")):
        done = ledgergate(*command)
        assert "Traceback" not in done.stderr, command
        assert done.returncode in {0, 3}, (command, done.stderr)
    (row,) = json.loads(ledgergate("status", "--json").stdout)["revisions"]
    assert row["started_at"] is None


@pytest.fixture
def ascii_database(postgres: str) -> Iterator[str]:
    """A database that accepts any byte as text."""
    name = "hostile_ascii"

    async def run(*statements: str) -> None:
        connection = await asyncpg.connect(postgres)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    drop = f"drop database if exists {name} with (force)"
    asyncio.run(
        run(drop, f"create database {name} template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'")
    )
    yield urlsplit(postgres)._replace(path=f"/{name}").geturl()
    asyncio.run(run(drop))


@pytest.fixture
async def ascii_connection(ascii_database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(ascii_database)
    yield connection
    await connection.close()


NOT_UTF8 = "convert_from('\\xff'::bytea, 'SQL_ASCII')"
INSERT_NOT_UTF8 = "insert into knex_migrations (name) values (convert_from('\\xff'::bytea, 'SQL_ASCII'))"


@pytest.mark.parametrize("column", ["name", "table"])
async def test_a_text_that_is_not_utf8_is_a_fault_of_its_ledger(
    column: str, ascii_database: str, ascii_connection: Connection
) -> None:
    """In a row, or in the name of a column; the ledger is read again once it is corrected."""
    await create(ascii_connection, "knex")
    if column == "name":
        await ascii_connection.execute(INSERT_NOT_UTF8)
        correction = "delete from knex_migrations"
    else:
        rename = f"do $$ begin execute 'alter table knex_migrations add ' || quote_ident({NOT_UTF8}) || ' int'; end $$"
        await ascii_connection.execute(rename)
        correction = (
            "drop table knex_migrations; create table knex_migrations (id int, name text, batch int, "
            "migration_time timestamptz)"
        )
    async with watching(ascii_database, "knex", unreadable_slowest=0.5) as watcher:
        await until(watcher, Fault.LEDGER)
        assert 'invalid byte sequence for encoding "UTF8"' in watcher.snapshot.detail
        await ascii_connection.execute(correction)
        await until(watcher, None)


async def test_a_notification_that_is_not_utf8_breaks_nothing(
    ascii_database: str, ascii_connection: Connection
) -> None:
    """Every role of the database may send one; the session is replaced."""
    await create(ascii_connection, "knex")
    async with watching(ascii_database, "knex") as watcher:
        await until(watcher, None)
        for _ in range(3):
            await ascii_connection.execute(f"select pg_notify('ledgergate', {NOT_UTF8})")
            await asyncio.sleep(0.1)
        await ascii_connection.execute("insert into knex_migrations (name, batch) values ('a', 1)")
        async with asyncio.timeout(60):
            while not (watcher.snapshot.ledger and watcher.snapshot.ledger.contains("a")):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)


async def test_commands_name_a_text_that_is_not_utf8(
    ascii_database: str, ascii_connection: Connection, ledgergate: Ledgergate
) -> None:
    """Exit code 2 and what to do, no traceback."""
    await create(ascii_connection, "knex")
    await ascii_connection.execute(INSERT_NOT_UTF8)
    ledgergate.environment["DATABASE_URL"] = ascii_database
    for command in ("status",), ("wait", "--revision", "a", "--timeout", "0"):
        done = ledgergate(*command, "--dialect", "knex")
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert 'cannot be read: invalid byte sequence for encoding "UTF8": 0xff' in done.stderr


@pytest.mark.parametrize("value", ["timestamptz '294276-12-31'", "date '12026-01-01'", "timestamp '0044-03-15 BC'"])
async def test_what_the_driver_cannot_decode_is_an_error_of_the_session(value: str, database: str) -> None:
    """It is a DatabaseError, which every reader of a session handles, and the session is closed."""
    session = await connect(Address.from_url(database), timeout=10, application_name="test")
    with pytest.raises(AnswerUnreadable, match="cannot be decoded"):
        await session.fetch(f"select {value}")
    assert session.closed


@pytest.mark.parametrize(
    "error",
    [
        OverflowError("date value out of range"),
        struct.error("unpack requires a buffer"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        MemoryError(),
        RecursionError(),
        asyncio.CancelledError(),
        asyncpg.InterfaceError("another operation is in progress"),
        asyncpg.InternalClientError("unexpected message"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_reading_raises_is_a_fault(
    error: BaseException, database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception of driver or dialect is a fault of the ledger; the watcher goes on and recovers."""
    await create(connection, "ledgergate")
    async with watching(database, unreadable_slowest=0.2) as watcher:
        await until(watcher, None)
        with monkeypatch.context() as patch:

            async def fail(*_: object, **__: object) -> None:
                raise error

            patch.setattr(reader.LedgerReader, "read", fail)
            await until(watcher, Fault.LEDGER)
        await until(watcher, None)


async def test_what_cannot_be_read_is_tried_ever_more_seldom(database: str, connection: Connection) -> None:
    """Pods that wait do not shorten the pause, since another attempt costs much and would fail again."""
    await create(connection, "knex")
    await connection.execute("insert into knex_migrations (name) values (repeat('x', 20000))")
    failures: list[float] = []
    clock = asyncio.get_running_loop().time
    source = LedgerSource(Address.from_url(database), find_dialect("knex"))
    watcher = LedgerWatcher(source, on_change=lambda _: None, jitter=lambda: 1.0, intervals=PollIntervals(retry=0.1))
    watcher.urgent = True
    pause_after = watcher._pause_after

    def counted(error: Exception) -> float:
        failures.append(clock())
        return pause_after(error)  # type: ignore[arg-type]

    watcher._pause_after = counted  # type: ignore[method-assign]
    task = asyncio.create_task(watcher.run())
    async with asyncio.timeout(60):
        while len(failures) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    pauses = [after - before for before, after in pairwise(failures)]
    assert all(pause >= 0.1 * 2**number for number, pause in enumerate(pauses)), pauses


NUMBERS = "insert into knex_migrations (name, batch) select 'm' || n, 1 from generate_series(1, {}) as n"
SIZES = {
    "rows": (NUMBERS.format(reader.MAX_ROWS + 1), "more than 20,000 rows"),
    "a million rows": (NUMBERS.format(1_000_000), "more than 20,000 rows"),
    "one wide row": (
        "insert into knex_migrations (name, batch) values (repeat('x', 50000000), 1)",
        "expected at most 16 KiB",
    ),
    "many wide rows": (
        "insert into knex_migrations (name) select n || repeat('x', 16000) from generate_series(1, 550) as n",
        "expected at most 8 MiB",
    ),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", [False, True], ids=["table", "view"])
async def test_what_is_too_large_for_a_ledger_is_not_fetched(
    size: str, view: bool, database: str, connection: Connection
) -> None:
    """The server counts and measures; the client receives one row, and says what is wrong."""
    insert, message = SIZES[size]
    await create(connection, "knex")
    await connection.execute(insert)
    if view:
        await connection.execute(
            "alter table knex_migrations rename to t; create view knex_migrations as select * from t"
        )
    async with watching(database, "knex", unreadable_slowest=0.3) as watcher:
        await until(watcher, Fault.LEDGER)
        assert message in watcher.snapshot.detail
        await connection.execute(f"truncate {'t' if view else 'knex_migrations'}")
        await connection.execute(NUMBERS.format(1))  # a view without a row proves nothing
        await until(watcher, None)


async def test_a_ledger_at_the_limit_is_read(database: str, connection: Connection) -> None:
    """A ledger with as many rows as allowed is read; one row more is a fault."""
    await create(connection, "knex")
    await connection.execute(NUMBERS.format(reader.MAX_ROWS))
    async with watching(database, "knex") as watcher:
        await until(watcher, None)
        assert watcher.snapshot.ledger is not None
        assert len(watcher.snapshot.ledger.records) == reader.MAX_ROWS
        await connection.execute("insert into knex_migrations (name, batch) values ('one more', 1)")
        await until(watcher, Fault.LEDGER)


async def test_a_long_error_is_cut(database: str, connection: Connection) -> None:
    """An error is as long as its tool makes it, and says nothing about what is applied."""
    await create(connection, "prisma")
    insert = "insert into _prisma_migrations values ('a', 'c', repeat('é', 1000000), now())"
    await connection.execute(insert)
    async with watching(database, "prisma") as watcher:
        await until(watcher, None)
        assert watcher.snapshot.ledger is not None
        assert watcher.snapshot.ledger.records[0].error == "é" * 1000 + "…"


async def test_commands_refuse_what_is_too_large(ledgergate: Ledgergate, connection: Connection) -> None:
    """Exit code 2, with the table, what it has and what is expected."""
    await create(connection, "knex")
    await connection.execute(SIZES["rows"][0])
    for command in ("status",), ("wait", "--revision", "a", "--timeout", "0"):
        done = ledgergate(*command, "--dialect", "knex")
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert "public.knex_migrations is too large for a ledger: it has more than 20,000 rows" in done.stderr
