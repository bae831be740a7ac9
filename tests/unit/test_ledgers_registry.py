"""The registry of ledgers: gates, Secrets and databases as they change under it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from migrations.core.ledger import Ledger
from migrations.core.snapshot import Fault
from migrations.dialects.catalogue import DIALECTS
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from tests.object_feeds import Objects, a_gate, a_secret, until
from webhook.api.objects import Metadata
from webhook.cache.gates import GateCache
from webhook.core.status import Problem
from webhook.kube.errors import Forbidden, Unavailable
from webhook.kube.reflector import Key, Unreadable
from webhook.ledgers.bindings import ledger_fingerprint
from webhook.ledgers.registry import LedgerRegistry

NO_SERVER = "postgresql://u:p@127.0.0.1:1/app"
KEY = ("ns", "app")


@asynccontextmanager
async def registered(objects: Objects) -> AsyncIterator[tuple[GateCache, LedgerRegistry, list[Key]]]:
    gates, changed = GateCache(objects), list[Key]()
    ledgers = LedgerRegistry(gates, objects, "test", changed.append)
    tasks = [asyncio.create_task(part.run()) for part in (gates, ledgers)]
    try:
        await asyncio.wait_for(gates.wait_synced(), 10)
        yield gates, ledgers, changed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_ledger_is_read_and_a_change_is_reported(database: str) -> None:
    """Gate, Secret, address, reading: each step follows by itself."""
    objects = Objects()
    objects.gates.put(a_gate())
    objects.secrets["ns", "pg"] = a_secret(database)
    async with registered(objects) as (gates, ledgers, changed):
        await until(lambda: ledgers.may_write_status(KEY))
        gate = gates.gate(KEY)
        assert gate is not None
        await until(lambda: ledgers.snapshot(gate).fault is None)
        assert ledgers.snapshot(gate).ledger == Ledger()
        assert ledgers.gates_with_snapshots("ns", {}) == [(gate, ledgers.snapshot(gate))]
        assert ledgers.fingerprint(KEY) == ledger_fingerprint(
            LedgerSource(Address.from_url(database), DIALECTS["ledgergate"])
        )
        assert KEY in changed


async def test_gates_that_were_cached_before_are_found() -> None:
    """A registry that starts later than the cache finds every gate; until then each counts as unread."""
    objects = Objects()
    objects.gates.put(a_gate())
    objects.gates.put(Unreadable(Metadata(namespace="ns", name="odd", resource_version="8"), "spec is no object"))
    gates, changed = GateCache(objects), list[Key]()
    ledgers = LedgerRegistry(gates, objects, "test", changed.append)
    tasks = [asyncio.create_task(gates.run())]
    try:
        await asyncio.wait_for(gates.wait_synced(), 10)
        gate = gates.gate(KEY)
        assert gate is not None
        assert not ledgers.may_write_status(KEY)
        assert ledgers.snapshot(gate).fault is Fault.UNREAD
        assert (ledgers.fingerprint(KEY), ledgers.problems(KEY)) == ("", ())
        assert changed == []
        tasks.append(asyncio.create_task(ledgers.run()))
        await until(lambda: ledgers.problems(KEY) and ("ns", "odd") in changed)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_every_problem_of_a_secret_is_named_and_ends_when_it_is_mended() -> None:
    """Missing, forbidden, unreadable, unusable: each has its message; only what ends by itself is transient."""
    objects = Objects()
    objects.gates.put(a_gate())

    def shows(ledgers: LedgerRegistry, words: str) -> bool:
        return any(words in problem.text for problem in ledgers.problems(KEY))

    async with registered(objects) as (_, ledgers, _):
        missing = Problem("Secret pg does not exist in namespace ns; create it")
        await until(lambda: ledgers.problems(KEY) == (missing,))
        ledgers.set_urgent(KEY, urgent=True)  # pods wait: a Secret that is created is found within a second
        for refusal, words, transient in (
            (Forbidden("403: no"), "kubectl create role ledgergate-database -n ns", False),
            (Unavailable("503: busy"), "Secret pg cannot be read now", True),
        ):
            objects.refusal = refusal
            await until(partial(shows, ledgers, words))
            assert [problem.transient for problem in ledgers.problems(KEY)] == [transient]
        objects.refusal = None
        objects.secrets["ns", "pg"] = a_secret("mysql://x")
        await until(lambda: shows(ledgers, "Secret pg: "))
        objects.secrets["ns", "pg"] = a_secret(NO_SERVER)
        await until(lambda: not ledgers.problems(KEY))
        objects.refusal = Unavailable("503: busy")
        asked = len(objects.asked)
        await until(lambda: len(objects.asked) > asked + 1)
        assert not ledgers.problems(KEY), "its address is known"


async def test_a_secret_is_read_when_a_gate_is_edited_and_no_more_when_none_names_it() -> None:
    """Two gates of one Secret share a visit; an edit causes one at once; a Secret that no gate names is not read."""
    objects = Objects()
    objects.gates.put(a_gate("one"))
    objects.gates.put(a_gate("two"))
    objects.secrets["ns", "other"] = a_secret(NO_SERVER, "other")
    async with registered(objects) as (gates, ledgers, _):
        await until(lambda: ("ns", "pg") in objects.asked)
        objects.gates.put(a_gate("one", secret="other"))
        await until(lambda: ("ns", "other") in objects.asked)
        objects.gates.remove(("ns", "two"))
        await until(lambda: gates.gate(("ns", "two")) is None)
        assert set(ledgers._databases) == {("ns", "other")}
        asked = objects.asked.count(("ns", "pg"))
        objects.gates.put(a_gate("two"))
        await until(lambda: objects.asked.count(("ns", "pg")) > asked)


async def test_a_database_that_is_down_counts_as_read() -> None:
    """An unreachable database counts as read, so that a status with the fault is written."""
    objects = Objects()
    objects.gates.put(a_gate())
    objects.secrets["ns", "pg"] = a_secret(NO_SERVER)
    async with registered(objects) as (gates, ledgers, _):
        await until(lambda: ledgers.may_write_status(KEY))
        gate = gates.gate(KEY)
        assert gate is not None
        assert ledgers.snapshot(gate).fault is Fault.UNREACHABLE


async def test_a_gate_without_a_known_dialect_is_not_read_again_and_again() -> None:
    """Its Secret is read at most twice: without a known dialect there is nothing to follow."""
    objects = Objects()
    objects.secrets["ns", "pg"] = a_secret(NO_SERVER)
    async with registered(objects) as (gates, _, _):
        await gates.wait_synced()
        objects.gates.put(a_gate(ledger={"dialect": "nosuch"}))
        await until(lambda: objects.asked)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(objects.asked) <= 2
