"""Names that resolve slowly, in worker processes with a resolver of the test's own."""

import asyncio
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from migrations.dialects.native import NATIVE
from migrations.sql.statements import bind, load
from tests.object_feeds import Objects, a_gate, a_secret, until
from webhook.api.objects import LedgerGate, Secret
from webhook.cache.gates import GateCache
from webhook.kube.reflector import Key
from webhook.ledgers import reader_process
from webhook.ledgers.registry import LedgerRegistry

SQL = {name: bind(text, table=NATIVE.relation()) for name, text in load("ledgergate").items()}
Found = TypeVar("Found", LedgerGate, Secret)
RESOLVER = "127.77.0.1"
SLOW_NAMES = 4
SLOW_SECONDS = 6.0
"""Until the resolver answers for a slow name; a worker's resolver gives up after two tries of a second each."""
USUAL_SECONDS = 5.0
"""How late a commit may be seen: less than it would be behind one slow name. On a quiet machine it takes some 20 ms."""
SHARED_SECONDS = 20.0
"""How late a database with a quick name is read at first in the namespace of the slow ones, whose threads it shares:
after each of them was tried once, two at a time."""


LEAST_COMMITS = 10
"""Commits that are made while the slow names keep threads busy, two seconds at least."""


class SlowResolver(asyncio.DatagramProtocol):
    """A DNS server (RFC 1035): `quick.test` is 127.0.0.1; each other name is too, but some seconds later."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def connection_made(self, transport: Any) -> None:
        """Note where answers go."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question."""
        name, end = self._name(data)
        self.asked.add(name)
        (kind,) = struct.unpack_from("!H", data, end)
        question = data[12 : end + 4]
        record = struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton("127.0.0.1")
        answers = int(kind == 1)  # an A record; there is no AAAA record
        answer = data[:2] + struct.pack("!HHHHH", 0x8180, 1, answers, 0, 0) + question + record * answers
        pause = 0.0 if name == "quick.test" else SLOW_SECONDS
        asyncio.get_running_loop().call_later(pause, self.transport.sendto, answer, addr)

    @staticmethod
    def _name(data: bytes) -> tuple[str, int]:
        labels, at = [], 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        return ".".join(labels), at + 1


@asynccontextmanager
async def slow_resolver() -> AsyncIterator[SlowResolver]:
    """Run the resolver."""
    try:
        transport, resolver = await asyncio.get_running_loop().create_datagram_endpoint(
            SlowResolver, local_addr=(RESOLVER, 53)
        )
    except PermissionError:
        pytest.skip("the port of DNS may not be bound here: root may")
    try:
        yield resolver
    finally:
        transport.close()


@pytest.fixture
def own_resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have worker processes ask the resolver: each has its own /etc/resolv.conf, in a mount namespace."""
    configuration = tmp_path / "resolv.conf"
    configuration.write_text(f"nameserver {RESOLVER}\n")
    unshare, mount = shutil.which("unshare"), shutil.which("mount")
    script = f'{mount} --bind "$0" /etc/resolv.conf && exec "$@"'
    enter = (str(unshare), "--map-root-user", "--mount", "/bin/sh", "-c", script, str(configuration))
    if not unshare or subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a mount namespace may not be made here")
    monkeypatch.setattr(reader_process, "_COMMAND", (*enter, *reader_process._COMMAND))


def add(objects: Objects, namespace: str, secret: str, url: str) -> Key:
    """Add a gate and its Secret, both of one name, to a namespace."""
    objects.secrets[namespace, secret] = moved(a_secret(url, secret), namespace)
    objects.gates.put(moved(a_gate(secret, secret), namespace))
    return namespace, secret


def moved(found: Found, namespace: str) -> Found:
    """Return an object as one of another namespace."""
    return msgspec.structs.replace(found, metadata=msgspec.structs.replace(found.metadata, namespace=namespace))


@dataclass
class Tenants:
    """A registry that runs, and what it reads."""

    objects: Objects
    gates: GateCache
    ledgers: LedgerRegistry

    def sees(self, key: Key, name: str = "") -> bool:
        """Return whether a ledger was read, and was seen to hold a migration."""
        gate = self.gates.gate(key)
        snapshot = self.ledgers.snapshot(gate) if gate else None
        if snapshot is None or snapshot.fault is not None or snapshot.ledger is None:
            return False
        return not name or snapshot.ledger.contains(name)

    async def wait_for(self, key: Key) -> None:
        """Have pods wait for a ledger."""
        await until(lambda: self.gates.gate(key) is not None)
        self.ledgers.set_urgent(key, urgent=True)


@asynccontextmanager
async def running() -> AsyncIterator[Tenants]:
    """Run a registry."""
    objects = Objects()
    gates = GateCache(objects)
    ledgers = LedgerRegistry(gates, objects, "test")
    tasks = [asyncio.create_task(part.run()) for part in (gates, ledgers)]
    try:
        yield Tenants(objects, gates, ledgers)
        assert not any(task.done() for task in tasks), "a part has ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("own_resolver")
async def test_names_that_resolve_slowly_delay_no_other_tenant(database: str) -> None:
    """Commits of another tenant, and of one in the same namespace with an address, are seen as soon as ever.

    So is a new tenant's first look; one with a name in the namespace of the slow ones waits for the threads they share.
    """
    url = urlsplit(database)
    quick = url._replace(netloc=f"{url.username}:{url.password}@quick.test:{url.port}").geturl()
    connection = await asyncpg.connect(database)
    await connection.execute(SQL["create"])
    clock = asyncio.get_running_loop().time
    async with slow_resolver() as resolver, running() as tenants:
        good = [add(tenants.objects, "good", "pg", quick), add(tenants.objects, "slow", "pg", database)]
        await until(lambda: all(map(tenants.sees, good)))
        names = [f"slow-{number}" for number in range(SLOW_NAMES)]
        slow = [add(tenants.objects, "slow", name, f"postgresql://u:p@{name}.test:5432/x") for name in names]
        for key in (*good, *slow):
            await tenants.wait_for(key)
        await until(lambda: len(resolver.asked - {"quick.test"}) >= 2)
        began = clock()
        neighbour, newcomer = (add(tenants.objects, namespace, "quick", quick) for namespace in ("slow", "new"))
        await until(lambda: tenants.sees(newcomer))
        assert clock() - began < USUAL_SECONDS
        number = 0
        while not ({f"{name}.test" for name in names} <= resolver.asked and tenants.sees(neighbour)):
            number += 1
            revision, committed = f"{number:08}", clock()
            await connection.fetch(SQL["baseline"], revision, "sum", "test", None)
            await until(partial(_all_see, tenants, good, revision))
            assert clock() - committed < USUAL_SECONDS
            assert clock() - began < SHARED_SECONDS
            await asyncio.sleep(0.1)  # between two commits
        assert number >= LEAST_COMMITS
        assert not any(map(tenants.sees, slow))
    await connection.close()


def _all_see(tenants: Tenants, keys: list[Key], revision: str) -> bool:
    return all(tenants.sees(key, revision) for key in keys)
