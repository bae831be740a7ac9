"""Ledgers read through worker processes: whose sessions there are, and what becomes of them when a process dies."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.dialects.native import NATIVE
from migrations.sql.statements import bind, load
from testbed.postgres import Postgres
from testbed.waiting import until as until_blocking
from tests.object_feeds import Objects, a_gate, a_secret, until
from webhook.cache.gates import GateCache
from webhook.kube.reflector import Key
from webhook.ledgers.registry import LedgerRegistry

SQL = {name: bind(text, table=NATIVE.relation()) for name, text in load("ledgergate").items()}
OURS = "select count(*) from pg_stat_activity where application_name = 'ledgergate test'"


@dataclass
class Running:
    """A registry and what it reads."""

    objects: Objects
    gates: GateCache
    ledgers: LedgerRegistry

    def add(self, namespace: str, url: str, **spec: Any) -> Key:
        """Add a gate with a Secret, in a namespace of its own."""
        self.secret(namespace, url)
        gate = a_gate(**spec)
        self.objects.gates.put(_moved(gate, namespace))
        return namespace, "app"

    def secret(self, namespace: str, url: str) -> None:
        """Write a Secret."""
        self.objects.secrets[namespace, "pg"] = _moved(a_secret(url), namespace)

    def snapshot(self, key: Key) -> LedgerSnapshot:
        """Return what is known of a gate's ledger."""
        gate = self.gates.gate(key)
        return self.ledgers.snapshot(gate) if gate is not None else LedgerSnapshot(fault=Fault.UNREAD)

    def live(self, key: Key) -> bool:
        """Return whether a gate's ledger could be read last."""
        return self.snapshot(key).fault is None

    def holds(self, key: Key, revision: str) -> bool:
        """Return whether a gate's ledger was seen to hold a revision."""
        ledger = self.snapshot(key).ledger
        return self.live(key) and ledger is not None and ledger.contains(revision)


def _moved(found: Any, namespace: str) -> Any:
    return msgspec.structs.replace(found, metadata=msgspec.structs.replace(found.metadata, namespace=namespace))


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Running]:
    objects = Objects()
    gates = GateCache(objects)
    ledgers = LedgerRegistry(gates, objects, "test", **options)
    tasks = [asyncio.create_task(part.run()) for part in (gates, ledgers)]
    try:
        yield Running(objects, gates, ledgers)
        assert not any(task.done() for task in tasks), "a part has ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def record(url: str, name: str, *, create: bool = False) -> None:
    """Record a migration as applied."""
    connection = await asyncpg.connect(url)
    if create:
        await connection.execute(SQL["create"])
    await connection.fetch(SQL["baseline"], name, "sum", "test", None)
    await connection.close()


async def test_at_rest_there_is_no_session_and_while_pods_wait_there_is_one(database: str) -> None:
    """Two ledgers of one Secret share it; a commit is seen by NOTIFY; when no pod waits any more it is closed."""
    connection = await asyncpg.connect(database)
    await connection.execute(SQL["create"])
    ours = f"{OURS} and datname = current_database()"
    async with running() as found:
        one = found.add("ns", database)
        found.objects.gates.put(a_gate("two", ledger={"dialect": "knex"}))
        two = ("ns", "two")
        await until(lambda: found.live(one) and found.live(two))
        await _await_count(connection, ours, 0)
        for key in (one, two):
            found.ledgers.set_urgent(key, urgent=True)
        await _await_count(connection, ours, 1)
        await connection.fetch(SQL["baseline"], "a", "sum", "test", None)
        await until(lambda: found.holds(one, "a"))
        assert await connection.fetchval(ours) == 1
        for key in (one, two):
            found.ledgers.set_urgent(key, urgent=False)
        assert await connection.fetchval(ours) == 1, "a change was just seen: more may come"
        found.objects.gates.remove(two)
        found.objects.gates.remove(one)
        await _await_count(connection, ours, 0)
    await connection.close()


async def _await_count(connection: "asyncpg.Connection[asyncpg.Record]", query: str, count: int) -> None:
    async with asyncio.timeout(30):
        while await connection.fetchval(query) != count:  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.02)


async def test_fifty_ledgers_on_one_server_leave_it_to_the_applications() -> None:
    """At most ten sessions are ours; each ledger has its turn, and other clients are never refused."""
    with Postgres(max_connections="40") as server:
        urls = [server.create_database() for _ in range(50)]
        watch = await asyncpg.connect(server.url())
        others = [await asyncpg.connect(server.url()) for _ in range(20)]
        async with running() as found:
            keys = [found.add(f"n{number}", url) for number, url in enumerate(urls)]
            most = 0
            async with asyncio.timeout(60):
                while not all(map(found.live, keys)):
                    most = max(most, await watch.fetchval(OURS))
                    await asyncio.sleep(0.01)
            for key in keys:
                found.ledgers.set_urgent(key, urgent=True)
            await record(urls[-1], "late", create=True)
            async with asyncio.timeout(60):
                while not found.holds(keys[-1], "late"):
                    most = max(most, await watch.fetchval(OURS))
                    await asyncio.sleep(0.01)
            assert 2 <= most <= 10
            assert all(map(found.live, keys))
        for connection in (watch, *others):
            await connection.close()


async def test_a_role_without_room_is_asked_again_later(own_postgres: Postgres) -> None:
    """After SQLSTATE 53300 (too many connections) the ledger is read once there is room."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute("create role app login password 'app' connection limit 0")
    app = urlsplit(url)._replace(netloc=f"app:app@127.0.0.1:{own_postgres.port}").geturl()
    async with running() as found:
        key = found.add("ns", app)
        await until(lambda: found.snapshot(key).fault is Fault.UNREACHABLE)
        # The fault may be known a moment before the turn counts the refusal.
        await until(lambda: any(server.refusals for server in found.ledgers._readers.servers._servers.values()))
        await connection.execute("alter role app connection limit 5")
        await until(lambda: found.live(key))
    await connection.close()


async def test_a_standby_is_named_until_it_is_promoted(own_postgres: Postgres) -> None:
    """The snapshot of a server in recovery says so; after the promotion a new session finds the primary."""
    url = own_postgres.create_database()
    await record(url, "a", create=True)
    own_postgres.stop()
    (own_postgres.data / "standby.signal").touch()
    own_postgres.start()
    async with running() as found:
        key = found.add("ns", url)
        await until(lambda: found.holds(key, "a"))
        assert found.snapshot(key).standby
        found.ledgers.set_urgent(key, urgent=True)
        connection = await asyncpg.connect(url)
        await connection.execute("select pg_promote()")
        await connection.close()
        await until(lambda: not found.snapshot(key).standby)
        await record(url, "b")
        await until(lambda: found.holds(key, "b"))


async def test_a_new_password_counts_while_pods_wait(own_postgres: Postgres) -> None:
    """A refused login reads the Secret again; the next attempt has the new password."""
    url = own_postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute("create role app login password 'one'")
    before, after = (
        urlsplit(url)._replace(netloc=f"app:{word}@127.0.0.1:{own_postgres.port}").geturl() for word in ("one", "two")
    )
    async with running() as found:
        key = found.add("ns", before)
        await until(partial(found.live, key))
        found.ledgers.set_urgent(key, urgent=True)
        await connection.execute("alter role app password 'two'")
        await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        await until(lambda: found.snapshot(key).fault is Fault.AUTHENTICATION)
        found.secret("ns", after)
        await until(partial(found.live, key))
    await connection.close()


async def test_a_worker_that_is_killed_costs_no_tenant_more_than_a_moment(database: str) -> None:
    """After a kill from outside, the worker's databases are read alone once, then together as before."""
    await record(database, "a", create=True)
    async with running(workers=1) as found:
        keys = [found.add(f"n{number}", database) for number in range(4)]
        await until(lambda: all(map(found.live, keys)))
        for key in keys:
            found.ledgers.set_urgent(key, urgent=True)
        await until(lambda: all(found.ledgers._pool.may_follow((key[0], "pg")) for key in keys))
        await until(lambda: len(found.ledgers._pool._shared[0].jobs) == 4)
        killed = found.ledgers._pool._shared[0].process
        assert killed is not None
        os.kill(killed.pid, signal.SIGKILL)
        began = time.monotonic()
        await record(database, "b")
        await until(lambda: all(found.holds(key, "b") for key in keys))
        assert time.monotonic() - began < 15
        await until(lambda: len(found.ledgers._pool._shared[0].jobs) == 4)
        assert all(found.ledgers._pool.penalty((key[0], "pg")) == 0 for key in keys)


async def test_a_corrected_secret_ends_the_penalty(database: str) -> None:
    """A database whose visits have ended workers waits for minutes, unless its Secret names another one."""
    await record(database, "a", create=True)
    async with running() as found:
        key = found.add("ns", database.replace("127.0.0.1", "127.0.0.9"))
        await until(lambda: found.snapshot(key).fault is Fault.UNREACHABLE)
        pool, secret = found.ledgers._pool, ("ns", "pg")
        for _ in range(5):
            pool._strike(secret)
        assert pool.penalty(secret) > 60
        found.ledgers.set_urgent(key, urgent=True)
        found.secret("ns", database)
        await until(lambda: found.holds(key, "a"))
        assert not pool.may_follow(secret), "it is still read alone"
        pool._strike(secret)
        pool.pardon(secret)
        assert pool.penalty(secret) > 60, "an edit a minute is enough"


ORPHAN = """
import asyncio, sys
from webhook.ledgers.reader_process import ReaderProcess
async def main():
    process = ReaderProcess(print)
    print(process.pid, flush=True)
    await process.run()
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_with_its_parent(number: signal.Signals) -> None:
    """However the controller ends, no process of it stays."""
    command = [sys.executable, "-c", ORPHAN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = Path(f"/proc/{int(parent.stdout.readline())}")
        assert worker.exists()
        parent.send_signal(number)
    until_blocking("the worker's end", lambda: not worker.exists() or "Z" in _state(worker))


def _state(process: Path) -> str:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
