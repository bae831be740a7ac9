"""Hostile database servers of some tenants do not delay a tenant that waits for a migration."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from migrations.core.snapshot import Fault
from migrations.dialects.native import NATIVE
from migrations.sql.statements import bind, load
from testbed.evil.behaviours import BEHAVIOURS
from testbed.evil.server import evil_servers
from testbed.postgres import create_database, drop_database
from tests.object_feeds import Objects, a_gate, a_secret, until
from webhook.cache.gates import GateCache
from webhook.ledgers.registry import LedgerRegistry

pytestmark = pytest.mark.asyncio(loop_scope="module")

SQL = {name: bind(text, table=NATIVE.relation()) for name, text in load("ledgergate").items()}
GOOD = ("good", "app")
USUAL_SECONDS = 1.5
"""How much later a commit of the good tenant may be seen than by a registry that has no other tenant."""
CAUGHT_SECONDS = 8.0
"""How much later once, where a database that was read before stops or kills the worker that the good tenant shares."""
GROWTH = 64 * 1024**2
"""Bytes by which the process that decides may grow: nothing that a server sends is kept there."""


def of(namespace: str, found: Any) -> Any:
    """Return an object of the feeds, moved to another namespace."""
    return msgspec.structs.replace(found, metadata=msgspec.structs.replace(found.metadata, namespace=namespace))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@dataclass
class Registry:
    """A registry, and what it reads."""

    objects: Objects
    gates: GateCache
    ledgers: LedgerRegistry

    def has(self, name: str) -> bool:
        """Return whether the good tenant's ledger was seen to have a migration."""
        gate = self.gates.gate(GOOD)
        assert gate is not None
        snapshot = self.ledgers.snapshot(gate)
        return snapshot.fault is None and snapshot.ledger is not None and snapshot.ledger.contains(name)

    async def seconds_until(self, name: str) -> float:
        """Wait until the good tenant's ledger was seen to have a migration; return how long that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self.has(name):  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.005)
        return loop.time() - began


@dataclass
class Tenants(Registry):
    """A registry with a good tenant, for whom a migration is committed every tenth of a second.

    Attributes:
        alone: a registry with the good tenant only, for comparison: a busy machine delays it just as much.
        delays: seconds by which each commit was seen later here than by `alone`.
    """

    alone: Registry
    connection: "asyncpg.Connection[asyncpg.Record]"
    delays: list[float] = field(default_factory=list)
    number: int = 0

    async def commit(self) -> None:
        """Commit one migration after the other, and note how much later each is seen."""
        while True:
            self.number += 1
            name = f"{self.number:08}"
            await self.connection.fetch(SQL["baseline"], name, "sum", "test", None)
            here, there = await asyncio.gather(self.seconds_until(name), self.alone.seconds_until(name))
            self.delays.append(here - there)
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def joined(self, namespace: str, url: str) -> AsyncIterator[None]:
        """Add a tenant, and remove it after the block."""
        self.objects.secrets[namespace, "pg"] = of(namespace, a_secret(url))
        self.objects.gates.put(of(namespace, a_gate()))
        await until(lambda: self.gates.gate((namespace, "app")) is not None)
        yield
        self.objects.gates.remove((namespace, "app"))

    def fault(self, namespace: str) -> Fault | None:
        """Return why a tenant's ledger cannot be read."""
        gate = self.gates.gate((namespace, "app"))
        assert gate is not None
        return self.ledgers.snapshot(gate).fault

    async def seen(self, count: int = 3) -> None:
        """Wait until some more commits were seen."""
        wanted = len(self.delays) + count
        await until(lambda: len(self.delays) >= wanted)


def registry(url: str, name: str) -> Registry:
    """Return a registry with the good tenant, whose sessions have a name."""
    objects = Objects()
    objects.secrets["good", "pg"] = of("good", a_secret(url))
    objects.gates.put(of("good", a_gate()))
    gates = GateCache(objects)
    return Registry(objects, gates, LedgerRegistry(gates, objects, name))


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Tenants]:
    """Run a registry with the good tenant, and one for comparison."""
    here, there = registry(url, "test"), registry(url, "alone")
    connection = await asyncpg.connect(url)
    await connection.execute(SQL["create"])
    tenants = Tenants(here.objects, here.gates, here.ledgers, there, connection)
    tasks = [asyncio.create_task(part.run()) for each in (here, there) for part in (each.gates, each.ledgers)]
    try:
        for each in (here, there):
            await until(lambda: _is_read(each))  # noqa: B023
            each.ledgers.set_urgent(GOOD, urgent=True)
        tasks.append(asyncio.create_task(tenants.commit()))
        await tenants.seen()
        yield tenants
        assert not any(task.done() for task in tasks), "a part has ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()


def _is_read(found: Registry) -> bool:
    gate = found.gates.gate(GOOD)
    return gate is not None and found.ledgers.snapshot(gate).fault is None


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def tenants(good: str) -> AsyncIterator[Tenants]:
    """One registry for all behaviours, as a controller has one for all tenants."""
    async with running(good) as found:
        yield found


@pytest.fixture(scope="module")
def good(postgres: str, template: str) -> Iterator[str]:
    """URL of the good tenant's database."""
    url = create_database(postgres, template)
    yield url
    drop_database(url)


@pytest.fixture(scope="module")
def evil() -> Iterator[Mapping[str, int]]:
    """Port of a server for each behaviour."""
    with evil_servers() as ports:
        yield ports


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_an_evil_server_is_the_fault_of_its_gate(
    tenants: Tenants, evil: Mapping[str, int], behaviour: str
) -> None:
    """Its gate has a fault; the good tenant's commits are seen without delay, and this process does not grow."""
    namespace = behaviour.replace("_", "-")
    tenants.delays.clear()
    before, workers = resident(), set(tenants.ledgers.pids)
    async with tenants.joined(namespace, f"postgresql://u:p@127.0.0.1:{evil[behaviour]}/evil"):
        await until(lambda: tenants.ledgers.may_write_status((namespace, "app")))
        await tenants.seen()
        assert tenants.fault(namespace) is not None
    assert max(tenants.delays) < USUAL_SECONDS
    assert resident() - before < GROWTH
    assert len(workers & set(tenants.ledgers.pids)) >= 1, "the good tenant's worker was ended"


TURNCOATS = (
    "continues_sasl_first",
    "announces_2_gb",
    "sends_noise_without_end",
    "notices_without_end_once_open",
    "notifies_without_end",
    "is_ready_without_end",
    "answers_with_records_in_records",
    "answers_with_an_array_of_billions",
    "sends_rows_without_end",
    "sends_one_cell_without_end",
    "says_nothing",
    "sends_a_row_now_and_then",
)


@pytest.mark.parametrize("behaviour", TURNCOATS)
async def test_a_server_that_turns_evil_is_read_alone(database: str, behaviour: str) -> None:
    """A server that answered at first shares the good tenant's worker: the good tenant is delayed once, and briefly."""
    real = urlsplit(database)
    async with running(database) as tenants:
        with evil_servers(real.port or 0) as ports:
            url = real._replace(
                netloc=f"{real.username}:{real.password}@127.0.0.1:{ports[behaviour]}", query="sslmode=disable"
            ).geturl()
            # The namespace decides about the worker: in the good tenant's namespace it is the good tenant's.
            tenants.objects.secrets["good", "evil"] = of("good", a_secret(url, "evil"))
            tenants.objects.gates.put(of("good", a_gate("evil", "evil")))
            key = ("good", "evil")
            await until(lambda: tenants.gates.gate(key) is not None)
            gate = tenants.gates.gate(key)
            assert gate is not None
            await until(lambda: tenants.ledgers.snapshot(gate).fault is None)
            tenants.ledgers.set_urgent(key, urgent=True)
            tenants.delays.clear()
            await _end_sessions(database)
            await until(lambda: tenants.ledgers.snapshot(gate).fault is not None)
            await tenants.seen(10)
            assert max(tenants.delays) < CAUGHT_SECONDS
            late = [delay for delay in tenants.delays if delay > USUAL_SECONDS]
            assert len(late) <= 1, late


async def _end_sessions(url: str) -> None:
    """End the sessions of both tenants, once both last, so that they are opened anew."""
    connection = await asyncpg.connect(url)
    ours = "from pg_stat_activity where application_name = 'ledgergate test' and datname = current_database()"
    async with asyncio.timeout(30):
        while await connection.fetchval(f"select count(*) {ours}") < 2:  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.02)
    await connection.execute(f"select pg_terminate_backend(pid) {ours}")
    await connection.close()


async def test_a_worker_has_no_credentials(tenants: Tenants) -> None:
    """Its environment is empty but for three settings, and it has no file open but what it was given."""
    assert tenants.ledgers.pids
    for pid in tenants.ledgers.pids:
        _check_process(Path(f"/proc/{pid}"))


def _check_process(process: Path) -> None:
    environment = (process / "environ").read_bytes().rstrip(b"\0").split(b"\0")
    assert {entry.partition(b"=")[0] for entry in environment} == {b"LC_ALL", b"MALLOC_ARENA_MAX", b"RES_OPTIONS"}
    files = [str(link.readlink()) for link in (process / "fd").iterdir()]
    assert {name.partition(":")[0] for name in files} <= {"socket", "anon_inode", "/dev/null", "/memfd"}, files
    assert b"postgresql" not in (process / "cmdline").read_bytes()
