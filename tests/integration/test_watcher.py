from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from migrations.core.ledger import Ledger
from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.dialects.native import NATIVE
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from migrations.reader.watcher import LedgerWatcher, PollIntervals
from migrations.sql.statements import bind, load
from testbed.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Connection = asyncpg.Connection[asyncpg.Record]

SQL = {name: bind(text, table=NATIVE.relation()) for name, text in load("ledgergate").items()}
SLOW = PollIntervals(urgent=60, idle=60, slowest=60)  # so that no poll can be what brings the news


@dataclass
class Watch:
    """A running watcher and the snapshots that it has reported."""

    watcher: LedgerWatcher
    reported: list[tuple[float, LedgerSnapshot]] = field(default_factory=list)
    words: list[tuple[Fault, str]] = field(default_factory=list)

    async def until(self, condition: Callable[[LedgerSnapshot], bool], deadline: float = 15) -> float:
        """Wait for a snapshot, and return when it was reported."""
        began = time.monotonic()
        while True:
            for at, snapshot in reversed(self.reported):
                if condition(snapshot):
                    return at
            assert time.monotonic() - began < deadline, self.reported
            await asyncio.sleep(0.002)


@asynccontextmanager
async def watching(url: str, intervals: PollIntervals = SLOW) -> AsyncIterator[Watch]:
    watch: Watch

    def report(snapshot: LedgerSnapshot) -> None:
        watch.reported.append((time.monotonic(), snapshot))

    def complain(fault: Fault, words: str) -> None:
        watch.words.append((fault, words))

    watch = Watch(
        LedgerWatcher(
            LedgerSource(Address.from_url(url), NATIVE), on_change=report, on_fault=complain, intervals=intervals
        )
    )
    task = asyncio.create_task(watch.watcher.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def record(connection: Connection, name: str) -> float:
    """Record a migration as applied; the time of the commit."""
    await connection.fetch(SQL["baseline"], name, "sum", "test", None)
    return time.monotonic()


def holds(name: str) -> Callable[[LedgerSnapshot], bool]:
    return lambda snapshot: snapshot.fault is None and snapshot.ledger is not None and snapshot.ledger.contains(name)


def faulty(fault: Fault) -> Callable[[LedgerSnapshot], bool]:
    return lambda snapshot: snapshot.fault is fault


async def test_a_missing_table_is_an_empty_ledger(database: str, connection: Connection) -> None:
    """Reading creates nothing; before the first reading the snapshot's fault says that there was none."""
    async with watching(database) as watch:
        assert watch.watcher.snapshot == LedgerSnapshot(fault=Fault.UNREAD)
        snapshot = await watch.watcher.refresh(30)
        assert (snapshot.ledger, snapshot.fault) == (Ledger(), None)
        assert snapshot.observed_at is not None
    assert not await connection.fetchval("select to_regclass('ledgergate_migrations') is not null")


async def test_the_order_is_that_of_names_whatever_was_applied_first(database: str, connection: Connection) -> None:
    """Byte by byte, as a directory is sorted, in every locale: a late merge takes its place among the older ones."""
    await connection.execute(SQL["create"])
    names = ["2_b", "2_a", "2_B", "2_a_b", "2_a-b", "1_ä", "1_z"]
    for name in names:
        await record(connection, name)
    async with watching(database) as watch:
        ledger = (await watch.watcher.refresh(30)).ledger
    assert ledger is not None
    assert list(ledger.applied) == sorted(names)


async def test_a_commit_is_reported_without_a_poll(database: str, connection: Connection) -> None:
    """NOTIFY brings the news of each commit: the next poll would come after the deadline."""
    await connection.execute(SQL["create"])
    async with watching(database) as watch:
        await watch.watcher.refresh(30)
        for number in range(5):
            await record(connection, f"r{number}")
            await watch.until(holds(f"r{number}"))


async def test_only_changes_are_reported(database: str, connection: Connection) -> None:
    """A read without a change updates the time of the snapshot and calls nothing."""
    await connection.execute(SQL["create"])
    async with watching(database) as watch:
        first = await watch.watcher.refresh(30)
        second = await watch.watcher.refresh(30)
        assert second.observed_at is not None
        assert first.observed_at is not None
        assert second.observed_at > first.observed_at
        assert second.ledger is first.ledger
        assert len(watch.reported) == 1


async def test_without_a_notify_a_poll_finds_it(database: str, connection: Connection) -> None:
    """Other tools announce nothing: the ledger is polled, and often while it is urgent."""
    await connection.execute(SQL["create"])
    insert = "insert into ledgergate_migrations (revision, batch, state, applied_by) values ($1, 1, 'applied', 'test')"
    async with watching(database, PollIntervals(urgent=0.05, idle=60, slowest=60)) as watch:
        await watch.watcher.refresh(30)
        watch.watcher.urgent = True
        await connection.execute(insert, "a")
        await watch.until(holds("a"), deadline=30)
        watch.watcher.urgent = False


async def test_many_refreshes_are_few_reads() -> None:
    """Concurrent requests share one read; requests during a read share the next one."""
    with Postgres(log_statement="all", log_min_messages="log") as server:
        url = server.create_database()
        connection = await asyncpg.connect(url)
        await connection.execute(SQL["create"])
        async with watching(url) as watch:
            await watch.watcher.refresh(30)
            before = server.log.count('from "public"."ledgergate_migrations"')
            await record(connection, "a")
            await watch.until(holds("a"))
            snapshots = await asyncio.gather(*(watch.watcher.refresh(30) for _ in range(300)))
            assert all(map(holds("a"), snapshots))
            reads = server.log.count('from "public"."ledgergate_migrations"') - before
            assert 2 <= reads <= 4, server.log
            # A row that is committed before the question is in the answer, however busy the watcher is.
            for number in range(20):
                busy = asyncio.create_task(watch.watcher.refresh(30))
                await asyncio.sleep(0)
                await record(connection, f"b{number}")
                assert holds(f"b{number}")(await watch.watcher.refresh(30))
                await busy
        await connection.close()


async def test_a_refresh_waits_no_longer_than_asked(database: str, connection: Connection) -> None:
    """While the table is locked the answer is the current reading, after the time that was given."""
    await connection.execute(SQL["create"])
    async with watching(database) as watch:
        await watch.watcher.refresh(30)
        async with connection.transaction():
            await connection.execute("lock table ledgergate_migrations in access exclusive mode")
            began = time.monotonic()
            snapshot = await watch.watcher.refresh(0.1)
            assert 0.1 <= time.monotonic() - began < 5
            assert snapshot.fault is None
            await watch.until(faulty(Fault.UNREACHABLE))
        await watch.until(lambda snapshot: snapshot.fault is None and watch.reported[-1][1].fault is None)


async def test_an_outage_keeps_the_last_ledger_and_ends_by_itself(own_postgres: Postgres) -> None:
    """A stopped server is a fault at once; the last ledger stays, `refresh` does not wait, a restart ends the fault."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute(SQL["create"])
    await record(connection, "a")
    connection.terminate()
    async with watching(url) as watch:
        await watch.watcher.refresh(30)
        own_postgres.stop("fast")
        stopped = time.monotonic()
        assert await watch.until(faulty(Fault.UNREACHABLE)) - stopped < 10, "a poll would be due after 60 s"
        assert watch.watcher.snapshot.ledger is not None
        assert watch.watcher.snapshot.ledger.contains("a")
        began = time.monotonic()
        await watch.watcher.refresh(60)
        assert time.monotonic() - began < 30
        reported = len(watch.reported)
        own_postgres.start()
        while watch.watcher.snapshot.fault is not None:
            await asyncio.sleep(0.01)
            assert time.monotonic() - began < 60
        assert len(watch.reported) == reported + 1
        connection = await asyncpg.connect(url)
        committed = await record(connection, "b")  # LISTEN is in force again
        assert await watch.until(holds("b")) - committed < 10
        await connection.close()


async def test_a_killed_session_is_replaced_without_a_fault(database: str, connection: Connection) -> None:
    """After the end of the session a new one listens at once, and no fault is reported."""
    await connection.execute(SQL["create"])
    async with watching(database) as watch:
        await watch.watcher.refresh(30)
        for number in range(3):
            killed = await connection.fetchval(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'ledgergate watcher' and datname = current_database()"
            )
            assert killed
            snapshot = await watch.watcher.refresh(30)
            assert snapshot.fault is None
            await record(connection, f"r{number}")
            await watch.until(holds(f"r{number}"))
        assert all(snapshot.fault is None for _, snapshot in watch.reported)


async def test_a_refresh_whose_session_is_killed_gets_the_next_sessions_answer(
    database: str, connection: Connection
) -> None:
    """Requests that wait for a read whose session ends get the result of the next read."""
    await connection.execute(SQL["create"])
    ours = "pg_stat_activity where application_name = 'ledgergate watcher' and datname = current_database()"
    async with watching(database) as watch:
        await watch.watcher.refresh(30)
        began = time.monotonic()
        async with connection.transaction():
            await connection.execute("lock table ledgergate_migrations in access exclusive mode")
            asking = asyncio.create_task(watch.watcher.refresh(60))
            blocked = f"select true from {ours} and wait_event_type = 'Lock'"  # noqa: S608
            while not await connection.fetchval(blocked):  # noqa: ASYNC110 - only the server knows
                await asyncio.sleep(0.005)
            assert await connection.fetchval(f"select pg_terminate_backend(pid) from {ours}")  # noqa: S608
            await record(connection, "a")
        assert holds("a")(await asking)
        assert time.monotonic() - began < 30


async def test_a_peer_that_falls_silent_is_noticed(database: str) -> None:
    """A connection that is open but dead (no RST, no FIN) is a fault once a read has taken too long."""
    target = urlsplit(database)
    silent = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not silent.is_set():
                writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        for work in (pump(reader, back), pump(there, writer)):
            tasks.add(asyncio.create_task(work))

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0, family=socket.AF_INET)
    port = proxy.sockets[0].getsockname()[1]
    url = target._replace(netloc=target.netloc.rpartition(":")[0] + f":{port}").geturl()
    async with watching(url, PollIntervals(urgent=0.1, idle=0.1, slowest=0.1, timeout=0.5)) as watch:
        await watch.watcher.refresh(30)
        silent.set()
        await watch.until(faulty(Fault.UNREACHABLE), deadline=30)
        silent.clear()
        await watch.until(lambda snapshot: snapshot.fault is None and watch.reported[-1][1].fault is None)
    proxy.close()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_standby_is_polled(own_postgres: Postgres) -> None:
    """A standby cannot LISTEN; its ledger is read all the same."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute(SQL["create"])
    await record(connection, "a")
    await connection.close()
    own_postgres.stop()
    (own_postgres.data / "standby.signal").touch()
    own_postgres.start()
    async with watching(url) as watch:
        assert holds("a")(await watch.watcher.refresh(30))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("alter role app password 'other'", Fault.AUTHENTICATION),
        ("revoke select on ledgergate_migrations from app", Fault.PERMISSION),
        ("alter table ledgergate_migrations drop column checksum", Fault.LEDGER),
        ("alter table ledgergate_migrations drop column state, add column state text default 'odd'", Fault.LEDGER),
        ("alter role app nologin", Fault.AUTHENTICATION),
    ],
)
async def test_what_is_wrong_has_a_name(own_postgres: Postgres, damage: str, fault: Fault) -> None:
    """Each mistake of an operator is a fault of its own, reported once; its correction needs no restart."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute(SQL["create"])
    await record(connection, "a")
    await connection.execute("create role app login password 'app'; grant select on ledgergate_migrations to app")
    await connection.execute(damage)
    app = urlsplit(url)._replace(netloc=f"app:app@127.0.0.1:{own_postgres.port}").geturl()
    async with watching(app) as watch:
        await watch.until(faulty(fault))
        assert watch.watcher.snapshot.ledger is None
        ((reported, words),) = watch.words
        assert reported is fault
        assert words
        await connection.execute("drop table ledgergate_migrations; alter role app login password 'app'")
        await watch.until(lambda snapshot: snapshot.fault is None)
    await connection.close()


async def test_a_changed_password_counts_once_the_session_has_ended(own_postgres: Postgres) -> None:
    """An open session goes on reading; only its successor's login is refused."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute(SQL["create"])
    await connection.execute("create role app login password 'app'; grant select on ledgergate_migrations to app")
    app = urlsplit(url)._replace(netloc=f"app:app@127.0.0.1:{own_postgres.port}").geturl()
    async with watching(app) as watch:
        await watch.until(lambda reading: reading.fault is None)
        await connection.execute("alter role app password 'other'")
        await record(connection, "a")
        await watch.until(holds("a"))
        await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        await watch.until(faulty(Fault.AUTHENTICATION))
        assert watch.watcher.snapshot.ledger is not None
    await connection.close()


async def test_a_database_restored_from_an_older_backup_is_what_it_is(database: str, connection: Connection) -> None:
    """The ledger that is there now counts, not the newer one that was seen before."""
    await connection.execute(SQL["create"])
    await record(connection, "a")
    await connection.execute("create table backup as table ledgergate_migrations")
    await record(connection, "b")
    async with watching(database, PollIntervals()) as watch:
        await watch.until(holds("b"))
        await connection.execute(
            "begin; drop table ledgergate_migrations; alter table backup rename to ledgergate_migrations; commit"
        )
        await watch.until(lambda reading: holds("a")(reading) and not holds("b")(reading))


async def test_a_database_that_is_not_there(database: str) -> None:
    """A database that does not exist is a fault of its own."""
    async with watching(database + "x") as watch:
        await watch.until(faulty(Fault.DATABASE))
