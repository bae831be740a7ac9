"""The guard: gates, Secrets and ledgers as they change under it, and what it goes on knowing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.snapshot import Fault
from migrations.dialects.catalogue import DIALECTS
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from webhook.api.objects import LedgerGate, Metadata, Secret
from webhook.core.gate import Gate, RecordedRevision
from webhook.core.selector import Selector
from webhook.core.status import Problem
from webhook.kube.errors import Forbidden, Unavailable
from webhook.kube.reflector import Change, ChangeKind, Feed, Key, Unreadable
from webhook.ledgers.bindings import LedgerBinding, Ledgers, fingerprint
from webhook.ledgers.registry import GateCache

NOBODY = "postgresql://u:p@127.0.0.1:1/nobody"
ELSEWHERE = "postgresql://u:p@127.0.0.1:2/nobody"


class Collection:
    """A collection that a test changes."""

    def __init__(self) -> None:
        self.items: dict[Key, Any] = {}
        self.refusal: Exception | None = None
        self._changes: asyncio.Queue[Change[Any] | Exception] = asyncio.Queue()
        self._version = 1

    async def list_objects(self) -> tuple[list[Any], str]:
        """List it, unless it is refused."""
        if self.refusal is not None:
            raise self.refusal
        return list(self.items.values()), str(self._version)

    async def changes(self, resource_version: str) -> AsyncIterator[Change[Any]]:
        """Watch it."""
        del resource_version
        while True:
            change = await self._changes.get()
            if isinstance(change, Exception):
                raise change
            yield change

    def put(self, found: Any) -> None:
        """Create or change an object."""
        self._version += 1
        self.items[found.metadata.key] = found
        self._changes.put_nowait(Change(ChangeKind.MODIFIED, str(self._version), found))

    def remove(self, key: Key) -> None:
        """Delete an object."""
        self._version += 1
        self._changes.put_nowait(Change(ChangeKind.DELETED, str(self._version), self.items.pop(key)))

    def cut(self) -> None:
        """End the watch, so that it is listed again."""
        self._changes.put_nowait(Unavailable("cut"))


class Objects:
    """Gates and Secrets; which Secrets are followed is seen."""

    def __init__(self) -> None:
        self.gates = Collection()
        self.secrets: dict[Key, Collection] = {}
        self.asked: list[Key] = []

    def ledger_gates(self) -> Feed[LedgerGate]:
        """Every gate."""
        return self.gates

    def secret(self, namespace: str, name: str) -> Feed[Secret]:
        """One Secret."""
        self.asked.append((namespace, name))
        return self.secrets.setdefault((namespace, name), Collection())


VERSIONS = iter(range(10, 100_000))


def a_gate(name: str = "app", secret: str = "pg", **spec: Any) -> LedgerGate:  # noqa: S107 - its name
    whole = {"selector": {}, "database": {"secretRef": {"name": secret}}, "ledger": {"dialect": "ledgergate"}, **spec}
    metadata = {"namespace": "ns", "name": name, "uid": name, "resourceVersion": str(next(VERSIONS))}
    return msgspec.convert({"metadata": metadata, "spec": whole}, LedgerGate)


def a_secret(url: str, name: str = "pg") -> Secret:
    metadata = Metadata(namespace="ns", name=name, resource_version=str(next(VERSIONS)))
    return Secret(metadata=metadata, data={"url": url.encode()})


class Changes(list[Key]):
    """The keys that the guard has told of."""

    async def until(self, probe: Any) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(30):
            while not probe():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.005)


@asynccontextmanager
async def guarding(objects: Objects) -> AsyncIterator[tuple[GateCache, Changes]]:
    changes = Changes()
    guard = GateCache(objects, "test", changes.append)
    task = asyncio.create_task(guard.run())
    try:
        await asyncio.wait_for(guard.wait_synced(), 10)
        yield guard, changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


KEY = ("ns", "app")


async def test_a_ledger_is_read_and_a_change_is_told(database: str) -> None:
    """Gate, Secret, address, reading: each step follows by itself."""
    objects = Objects()
    objects.gates.put(a_gate())
    objects.secret("ns", "pg")
    objects.secrets["ns", "pg"].put(a_secret(database))
    async with guarding(objects) as (guard, changes):
        await changes.until(lambda: guard.settled(KEY))
        gate = guard.gate(KEY)
        assert gate is not None
        await changes.until(lambda: guard.snapshot(gate).fault is None)
        assert guard.snapshot(gate).ledger == Ledger()
        assert guard.place(KEY) == fingerprint(LedgerSource(Address(database), DIALECTS["ledgergate"]))
        assert guard.namespaces == {"ns"}
        assert KEY in changes


async def test_every_problem_of_a_secret_is_named_and_over_when_it_is_mended() -> None:
    """Missing, forbidden, unreadable, of no use: each in words, and only what passes by itself is called passing."""
    objects = Objects()
    objects.gates.put(a_gate())
    secrets = objects.secret("ns", "pg")
    assert isinstance(secrets, Collection)

    def problem(guard: GateCache) -> Problem | None:
        found = guard.problems(KEY)
        return found[0] if found else None

    async with guarding(objects) as (guard, changes):
        await changes.until(lambda: problem(guard) == Problem("Secret pg does not exist in namespace ns; create it"))
        for refusal, words, passing in (
            (Forbidden("403: no"), "kubectl create role ledgergate-database -n ns", False),
            (Unavailable("503: busy"), "Secret pg cannot be read now", True),
        ):
            secrets.refusal = refusal
            secrets.cut()
            await changes.until(lambda words=words: words in (found.text if (found := problem(guard)) else ""))
            found = problem(guard)
            assert found is not None
            assert found.passing is passing
        secrets.refusal = None
        secrets.put(a_secret("mysql://x"))
        await changes.until(lambda: "Secret pg: " in (found.text if (found := problem(guard)) else ""))
        secrets.put(a_secret(NOBODY))
        await changes.until(lambda: not guard.problems(KEY))


async def test_a_secret_is_followed_while_a_gate_names_it() -> None:
    """One watch for two gates; none when the last has gone or names another."""
    objects = Objects()
    objects.gates.put(a_gate("one"))
    objects.gates.put(a_gate("two"))
    async with guarding(objects) as (guard, changes):
        await changes.until(lambda: objects.asked == [("ns", "pg")])
        objects.gates.put(a_gate("one", secret="other"))
        await changes.until(lambda: objects.asked == [("ns", "pg"), ("ns", "other")])
        objects.gates.remove(("ns", "two"))
        await changes.until(lambda: guard.gate(("ns", "two")) is None)
        assert set(guard._credentials._followed) == {("ns", "other")}
        objects.gates.put(a_gate("two"))
        await changes.until(lambda: objects.asked[-1] == ("ns", "pg"))


async def test_an_unreadable_gate_keeps_its_former_state() -> None:
    """Another version's object hides nothing: what was known stays in force; what never was makes the guard blind."""
    objects = Objects()
    objects.gates.put(a_gate())
    async with guarding(objects) as (guard, changes):
        await changes.until(lambda: guard.gate(KEY) is not None)
        before = guard.gate(KEY)
        strange = Unreadable(Metadata(namespace="ns", name="app", uid="app", resource_version="7"), "spec is no object")
        objects.gates.put(strange)
        await changes.until(lambda: guard.unreadable(KEY) is not None)
        assert guard.gate(KEY) is before
        assert not guard.blind("ns")
        objects.gates.cut()  # and listed again: it is still there
        objects.gates.put(Unreadable(Metadata(namespace="ns", name="new", resource_version="8"), "spec is no object"))
        await changes.until(lambda: guard.blind("ns"))
        assert guard.gate(KEY) is before
        assert not guard.blind("elsewhere")
        objects.gates.remove(("ns", "new"))
        await changes.until(lambda: not guard.blind("ns"))
        objects.gates.put(a_gate(mode="Audit"))
        await changes.until(lambda: guard.unreadable(KEY) is None)
        assert guard.gate(KEY) != before


def recalled(place: str, **known: Any) -> Gate:
    history = {"a": RecordedRevision("t"), "b": RecordedRevision("t", compatible_from="b")}
    return Gate("ns", "app", Selector(), "pg", "ledgergate", history=history, place=place, **known)


def applied(line: LedgerBinding) -> tuple[str, ...] | None:
    """What is known to be applied; None where nothing is known."""
    return line.snapshot.ledger.applied if line.snapshot.ledger is not None else None


async def test_what_a_status_remembers_counts_for_its_own_ledger_only() -> None:
    """Restarted in an outage, we know what was applied, contract migrations too; not where the gate leads elsewhere."""
    here, there = (LedgerSource(Address(url), DIALECTS["ledgergate"]) for url in (NOBODY, ELSEWHERE))
    async with asyncio.TaskGroup() as group:
        ledgers = Ledgers(group, lambda _: None, lambda _: None, "test")
        line = LedgerBinding(recalled(fingerprint(here)))
        assert applied(line) == ("a", "b"), "before its Secret could be read"
        line.rebind(here, None, ledgers)
        assert applied(line) == ("a", "b")
        assert (line.snapshot.ledger or Ledger()).barrier("a") is not None
        line.rebind(there, None, ledgers)
        assert applied(line) is None
        line.rebind(None, Problem("gone"), ledgers)
        for place in (fingerprint(there), ""):
            other = LedgerBinding(recalled(place))
            other.rebind(here, None, ledgers)
            assert applied(other) is None
            other.rebind(None, None, ledgers)


def heads(*names: str) -> Ledger:
    return Ledger.of([Record(name, State.APPLIED) for name in names], History.HEADS)


async def test_heads_are_remembered_where_the_tool_keeps_no_history() -> None:
    """Each head that is left behind is applied still; the controller's word, from the status, adds what we missed."""
    line = LedgerBinding(
        Gate("ns", "app", Selector(), "pg", "ledgergate", history={"one": RecordedRevision()}, place="here")
    )

    def at(ledger: Ledger) -> tuple[str, ...]:
        line._known = line._known.__class__(ledger)
        found = line.snapshot.ledger
        assert found is not None
        assert line.snapshot.ledger is found, "made anew for each question"
        return found.applied

    assert at(heads("one")) == ("one",)
    assert at(heads("two")) == ("one", "two")
    assert at(heads("four")) == ("one", "two", "four")
    written = {name: RecordedRevision() for name in ("one", "two", "three", "four")}
    line.gate = Gate("ns", "app", Selector(), "pg", "ledgergate", history=written, place="here")
    assert at(heads("four")) == ("one", "two", "three", "four")
    line.gate = Gate(
        "ns", "app", Selector(), "pg", "ledgergate", history={"x": RecordedRevision(), "four": RecordedRevision()}
    )
    assert at(heads("four"))[:2] == ("one", "two"), "of another place"
    assert at(heads("two")) == ("one", "two"), "a downgrade forgets what came after"


def test_a_place_is_named_without_being_told() -> None:
    """Neither host nor database can be read out of it; role and password do not matter, table and dialect do."""
    source = LedgerSource(Address(NOBODY), DIALECTS["ledgergate"])
    assert "127" not in fingerprint(source)
    assert fingerprint(source) == fingerprint(
        LedgerSource(Address(NOBODY.replace("u:p", "v:q")), DIALECTS["ledgergate"])
    )
    others = [
        LedgerSource(Address(ELSEWHERE), DIALECTS["ledgergate"]),
        LedgerSource(Address(NOBODY), DIALECTS["knex"]),
        LedgerSource(Address(NOBODY), DIALECTS["ledgergate"], "app"),
        LedgerSource(Address(NOBODY), DIALECTS["ledgergate"], None, "t"),
    ]
    assert len({fingerprint(found) for found in (source, *others)}) == 5


async def test_a_database_that_is_down_settles_a_gate() -> None:
    """That it cannot be read is known, and no reason to wait on."""
    objects = Objects()
    objects.gates.put(a_gate())
    objects.secret("ns", "pg")
    objects.secrets["ns", "pg"].put(a_secret(NOBODY))
    async with guarding(objects) as (guard, changes):
        await changes.until(lambda: guard.settled(KEY))
        gate = guard.gate(KEY)
        assert gate is not None
        assert guard.snapshot(gate).fault is Fault.UNREACHABLE
        assert guard.unsettled == []
