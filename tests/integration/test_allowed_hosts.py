"""Workers connect to no server that is not allowed, and the read-only role of the docs is enough for them."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.dialects.native import NATIVE
from migrations.sql.statements import bind, load
from tests.object_feeds import Objects, a_gate, a_secret, until
from webhook.cache.gates import GateCache
from webhook.ledgers.registry import LedgerRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SQL = {name: bind(text, table=NATIVE.relation()) for name, text in load("ledgergate").items()}
PAGE = Path(__file__).parents[2] / "docs/hardening.md"
KEY = ("ns", "app")


@asynccontextmanager
async def reading(url: str, *allowed: str) -> AsyncIterator[Callable[[], LedgerSnapshot]]:
    """Read the ledger of one gate, whose Secret has this URL; yield a function that returns its snapshot."""
    objects = Objects()
    gates = GateCache(objects)
    ledgers = LedgerRegistry(gates, objects, "test", allowed_hosts=allowed)
    tasks = [asyncio.create_task(part.run()) for part in (gates, ledgers)]
    objects.secrets["ns", "pg"] = a_secret(url)
    gate = a_gate()
    objects.gates.put(gate)

    def snapshot() -> LedgerSnapshot:
        found = gates.gate(KEY)
        return LedgerSnapshot(fault=Fault.UNREAD) if found is None else ledgers.snapshot(found)

    try:
        yield snapshot
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, list[object]]]:
    """Listen on a port of this machine, and collect who connects."""
    connected: list[object] = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], connected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1"])
async def test_a_server_that_is_not_allowed_is_not_connected_to(host: str) -> None:
    """Whatever name leads to the server: the gate says that it is not allowed, and how to allow it."""
    async with listening() as (port, connected):
        url = f"postgresql://me:x@{host}:{port}/app?sslmode=disable"
        async with reading(url, "10.0.0.0/8", ".example.com", "other") as snapshot:
            await until(lambda: snapshot().fault is Fault.ADDRESS)
            assert "--allowed-database-hosts" in snapshot().detail
        assert connected == []
        async with reading(url) as snapshot:
            await until(lambda: connected)


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"])
async def test_a_metadata_service_is_never_connected_to(host: str) -> None:
    """Not even where everything is allowed."""
    url = f"postgresql://me:x@{host}:80/app?sslmode=disable"
    async with reading(url, "0.0.0.0/0", "::/0") as snapshot:
        await until(lambda: snapshot().fault is Fault.ADDRESS)
        assert "metadata service" in snapshot().detail


@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "localhost"])
async def test_a_server_that_is_allowed_is_read(database: str, allowed: str) -> None:
    """A server is read if its network or its name is allowed."""
    connection = await asyncpg.connect(database)
    await connection.execute(SQL["create"])
    await connection.close()
    url = database.replace(urlsplit(database).hostname or "", "localhost")
    async with reading(url, allowed) as snapshot:
        await until(lambda: snapshot().fault is None)
        assert not snapshot().unverified


async def test_the_role_of_the_docs_reads_the_ledger_and_nothing_else(database: str) -> None:
    """The GRANTs of the docs let the role read and listen; it can neither write nor read other tables."""
    (block,) = re.findall(r"```sql\n-- read-only role\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    name = urlsplit(database).path[1:]
    role = f"reader_{name}"
    script = block.replace("knex_migrations", "ledgergate_migrations").replace("ledgergate_reader", role)
    script = re.sub(r"DATABASE shop\b", f'DATABASE "{name}"', script)
    owner = await asyncpg.connect(database)
    await owner.execute(SQL["create"])
    await owner.fetch(SQL["baseline"], "20260101000000_users", "sum", "test", None)
    await owner.execute("create table orders (id int)")
    try:
        await owner.execute(script)
        parts = urlsplit(database)
        url = parts._replace(netloc=f"{role}:change-me@{parts.hostname}:{parts.port}").geturl()
        async with reading(url) as snapshot:
            await until(lambda: snapshot().fault is None)
            ledger = snapshot().ledger
            assert ledger is not None
            assert ledger.contains("20260101000000_users")
        reader = await asyncpg.connect(url)
        await reader.execute("listen ledgergate")
        for statement in ("delete from ledgergate_migrations", "create table mine (id int)", "select * from orders"):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
                await reader.execute(statement)
        await reader.execute("set default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("delete from ledgergate_migrations")
        await reader.close()
    finally:
        await owner.execute(f'drop owned by "{role}"; drop role "{role}"')
        await owner.close()
