"""The cache of LedgerGates: which changes its listeners learn of, and what it keeps of a gate that is unreadable."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import webhook.cache.gates
from tests.object_feeds import Objects, a_gate, until
from webhook.api.objects import LedgerGate, Metadata
from webhook.cache.gates import GateCache
from webhook.core.gate import Gate, Mode, parse_gate
from webhook.kube.reflector import Key, Unreadable

KEY = ("ns", "app")


@asynccontextmanager
async def caching(objects: Objects) -> AsyncIterator[tuple[GateCache, list[Key]]]:
    gates, changed = GateCache(objects), list[Key]()
    gates.subscribe(changed.append)
    task = asyncio.create_task(gates.run())
    try:
        await asyncio.wait_for(gates.wait_synced(), 10)
        yield gates, changed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_listener_learns_of_each_change_but_a_status() -> None:
    """Created, edited, deleted: one call each. A status alone is stored, and no reason to act."""
    objects = Objects()
    async with caching(objects) as (gates, changed):
        assert gates.synced
        objects.gates.put(a_gate())
        await until(lambda: changed == [KEY])
        recorded = {"history": [{"revision": "a", "observedAt": "t"}]}
        objects.gates.put(a_gate(status=recorded))
        await until(lambda: (gate := gates.gate(KEY)) and gate.history)
        assert changed == [KEY]
        objects.gates.put(a_gate(mode="Audit", status=recorded))
        await until(lambda: changed == [KEY, KEY])
        objects.gates.remove(KEY)
        await until(lambda: changed == [KEY, KEY, KEY])
        assert gates.gate(KEY) is None
        assert gates.metadata(KEY) is None


async def test_gates_are_found_by_namespace_and_labels() -> None:
    """A gate selects pods of its own namespace only; a namespace without a gate is not listed."""
    objects = Objects()
    objects.gates.put(a_gate("all"))
    objects.gates.put(a_gate("red", selector={"matchLabels": {"colour": "red"}}))
    async with caching(objects) as (gates, _):
        assert [gate.name for gate in gates.selecting("ns", {"colour": "red"})] == ["all", "red"]
        assert [gate.name for gate in gates.selecting("ns", {})] == ["all"]
        assert gates.selecting("elsewhere", {"colour": "red"}) == []
        assert gates.namespaces == {"ns"}
        assert list(gates.keys) == [("ns", "all"), ("ns", "red")]
        for key in gates.keys:
            objects.gates.remove(key)
        await until(lambda: not gates.namespaces)
        assert not gates.keys


async def test_an_unreadable_gate_keeps_its_last_readable_state() -> None:
    """Another version's object hides nothing. One that was never decoded may select any pod of its namespace."""
    objects = Objects()
    objects.gates.put(a_gate())
    async with caching(objects) as (gates, changed):
        before = gates.gate(KEY)
        assert before is not None
        strange = Unreadable(Metadata(namespace="ns", name="app", uid="app", resource_version="7"), "spec is no object")
        objects.gates.put(strange)
        await until(lambda: gates.unreadable(KEY) is not None)
        assert gates.gate(KEY) is before
        assert changed[-1] == KEY
        assert not gates.has_unknown_selector("ns")
        objects.gates.cut()  # and listed again: it is still there
        objects.gates.put(Unreadable(Metadata(namespace="ns", name="new", resource_version="8"), "spec is no object"))
        await until(lambda: gates.has_unknown_selector("ns"))
        assert gates.gate(KEY) is before
        assert ("ns", "new") in gates.keys
        assert not gates.has_unknown_selector("elsewhere")
        objects.gates.remove(("ns", "new"))
        await until(lambda: not gates.has_unknown_selector("ns"))
        objects.gates.put(a_gate(mode="Audit"))
        await until(lambda: gates.unreadable(KEY) is None)
        assert gates.gate(KEY) != before


async def test_a_gate_that_cannot_be_parsed_counts_as_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails, the other gates are known, and pods that it may select do not count as selected by none."""
    parse = parse_gate

    def strict(resource: LedgerGate) -> Gate:
        if resource.metadata.name == "bad":
            raise RecursionError
        return parse(resource)

    monkeypatch.setattr(webhook.cache.gates, "parse_gate", strict)
    objects = Objects()
    objects.gates.put(a_gate("bad"))
    objects.gates.put(a_gate())
    async with caching(objects) as (gates, _):
        bad = ("ns", "bad")
        await until(lambda: gates.gate(KEY) is not None and gates.unreadable(bad) is not None)
        assert gates.has_unknown_selector("ns")
        assert set(gates.keys) == {KEY, bad}
        objects.gates.remove(bad)
        await until(lambda: gates.unreadable(bad) is None)
        assert not gates.has_unknown_selector("ns")


async def test_a_listener_that_fails_ends_nothing() -> None:
    """The cache goes on, and the other listeners learn of the change."""
    objects = Objects()
    async with caching(objects) as (gates, changed):

        def fail(key: Key) -> None:
            raise OverflowError(key)

        gates._listeners.insert(0, fail)
        objects.gates.put(a_gate())
        await until(lambda: changed == [KEY])
        objects.gates.put(a_gate(mode="Audit"))
        await until(lambda: changed == [KEY, KEY])


async def test_the_surplus_of_a_namespace_selects_no_pod() -> None:
    """The oldest count, as many as are allowed; where one goes, the next moves up, and listeners learn of it."""
    objects = Objects()
    for name, created in (("new", "2026-03-01T00:00:00Z"), ("old", "2026-01-01T00:00:00Z")):
        objects.gates.put(a_gate(name, created=created))
    gates, changed = GateCache(objects, per_namespace=2), list[Key]()
    gates.subscribe(changed.append)
    task = asyncio.create_task(gates.run())
    try:
        await asyncio.wait_for(gates.wait_synced(), 10)
        changed.clear()
        objects.gates.put(a_gate("middle", created="2026-02-01T00:00:00Z"))
        await until(lambda: gates.is_surplus(("ns", "new")))
        assert {gate.name for gate in gates.selecting("ns", {})} == {"old", "middle"}
        assert changed == [("ns", "new"), ("ns", "middle")]
        assert {key[1] for key in gates.keys} == {"old", "middle", "new"}
        objects.gates.put(a_gate("newest", created="2026-04-01T00:00:00Z"))
        objects.gates.put(a_gate("new", created="2026-03-01T00:00:00Z", mode="Audit"))
        await until(lambda: (gate := gates.gate(("ns", "new"))) and gate.policy.mode is Mode.AUDIT)
        assert gates.is_surplus(("ns", "new"))
        assert gates.is_surplus(("ns", "newest"))
        objects.gates.remove(("ns", "old"))
        await until(lambda: gates.gate(("ns", "old")) is None)
        assert {gate.name for gate in gates.selecting("ns", {})} == {"middle", "new"}
        assert not gates.is_surplus(("ns", "new"))
        for name in ("newest", "middle", "new"):
            objects.gates.remove(("ns", name))
        await until(lambda: not gates.keys)
        assert not gates.namespaces
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_changed_selector_counts_from_the_next_pod_on() -> None:
    """A gate is found by its newest selector, and not at all once it is deleted, however often pods were looked up."""
    objects = Objects()
    async with caching(objects) as (gates, _):
        assert gates.selecting("ns", {"colour": "red"}) == []
        objects.gates.put(a_gate(selector={"matchLabels": {"colour": "red"}}))
        await until(lambda: gates.selecting("ns", {"colour": "red"}))
        assert gates.selecting("ns", {"colour": "blue"}) == []
        objects.gates.put(a_gate(selector={"matchLabels": {"colour": "blue"}}))
        await until(lambda: gates.selecting("ns", {"colour": "blue"}))
        assert gates.selecting("ns", {"colour": "red"}) == []
        objects.gates.remove(KEY)
        await until(lambda: not gates.selecting("ns", {"colour": "blue"}))
