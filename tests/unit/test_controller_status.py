"""What a controller that has just started writes into a gate's status."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from migrations.dialects.catalogue import DIALECTS
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from webhook.api.objects import LedgerGate, Metadata, Secret
from webhook.controller.events import Event
from webhook.controller.held_pods import HeldCount
from webhook.controller.status import StatusReconciler
from webhook.kube.reflector import Change, ChangeKind, Feed
from webhook.ledgers.bindings import fingerprint
from webhook.ledgers.registry import GateCache
from webhook.telemetry import Telemetry

SINCE = "2026-01-01T00:00:00Z"
NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
NOBODY = "postgresql://u:p@127.0.0.1:1/nobody"


class Still:
    """A collection that never changes."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    async def list_objects(self) -> tuple[list[Any], str]:
        """List it."""
        return list(self._items), "1"

    async def changes(self, resource_version: str) -> AsyncIterator[Change[Any]]:
        """Wait for what never comes."""
        del resource_version
        await asyncio.Event().wait()
        yield Change(ChangeKind.BOOKMARK, "2")


class Objects:
    """One gate with a status of an earlier life, and its Secret; the statuses written are kept."""

    def __init__(self, url: str, dialect: str = "ledgergate") -> None:
        ready = {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
        source = LedgerSource(Address(url), DIALECTS["ledgergate"])
        status = {
            "place": fingerprint(source),
            "history": [{"revision": "a", "observedAt": SINCE}],
            "conditions": [{"type": kind, "status": held, "lastTransitionTime": SINCE} for kind, held in ready.items()],
        }
        spec = {"selector": {}, "database": {"secretRef": {"name": "pg"}}, "ledger": {"dialect": dialect}}
        metadata = {"namespace": "ns", "name": "app", "uid": "1", "resourceVersion": "1"}
        gate = msgspec.convert({"metadata": metadata, "spec": spec, "status": status}, LedgerGate)
        secret = Secret(metadata=Metadata(namespace="ns", name="pg"), data={"url": url.encode()})
        self._gates, self._secret = Still(gate), Still(secret)
        self.written: list[Mapping[str, Any]] = []
        self.wrote = asyncio.Event()

    def ledger_gates(self) -> Feed[LedgerGate]:
        """Every gate."""
        return self._gates

    def secret(self, namespace: str, name: str) -> Feed[Secret]:
        """The Secret."""
        assert (namespace, name) == ("ns", "pg")
        return self._secret

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Keep what is written."""
        assert (namespace, name) == ("ns", "app")
        self.written.append(status)
        self.wrote.set()


@asynccontextmanager
async def reporting(objects: Objects, told: list[Event] | None = None) -> AsyncIterator[Telemetry]:
    """A guard and its reports, as a controller runs them."""
    told = [] if told is None else told
    telemetry = Telemetry()
    guard = GateCache(objects, "test", lambda key: reports.due(key))  # noqa: PLW0108 - it is made below
    reports = StatusReconciler(
        objects, guard, telemetry, count=lambda _: HeldCount(0, 0), tell=told.append, now=lambda: NOW
    )
    tasks = [asyncio.create_task(guard.run()), asyncio.create_task(reports.run())]
    try:
        yield telemetry
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_restart_is_no_news(database: str) -> None:
    """Nothing is written before the ledger was looked at: a gate that was ready stays so, since when it was."""
    objects = Objects(database)
    async with reporting(objects):
        await asyncio.wait_for(objects.wrote.wait(), 20)
    first = objects.written[0]
    assert first["state"] == "Live"
    assert {held["lastTransitionTime"] for held in first["conditions"]} == {SINCE}


async def test_a_start_in_an_outage_says_so_and_keeps_what_was_read() -> None:
    """The database is down: status says that, and neither it nor a metric takes what is remembered for a reading."""
    objects = Objects(NOBODY)
    async with reporting(objects) as telemetry:
        await asyncio.wait_for(objects.wrote.wait(), 20)
    first = objects.written[0]
    assert first["state"] == "Unreachable"
    assert "applied" not in first
    labels = {"namespace": "ns", "gate": "app"}
    assert telemetry.registry.get_sample_value("ledgergate_ledger_applied", labels) is None
    assert telemetry.registry.get_sample_value("ledgergate_gate_state", labels | {"state": "Unreachable"}) == 1


@pytest.mark.parametrize("url", ["", "mysql://x"])
async def test_a_secret_that_cannot_be_used_is_told_at_once(url: str) -> None:
    """What needs a person is said without waiting for anything."""
    objects = Objects(url)
    async with reporting(objects):
        await asyncio.wait_for(objects.wrote.wait(), 20)
    assert objects.written[0]["state"] == "Misconfigured"
    assert objects.written[0]["conditions"][2]["status"] == "True"


async def test_a_dialect_that_nobody_knows_is_told_and_keeps_nobody_waiting(database: str) -> None:
    """Any tenant may write such a gate: it is that gate's trouble, and no replica waits for its ledger to be read."""
    objects = Objects(database, dialect="nosuch")
    guard = GateCache(objects, "test")
    async with reporting(objects):
        await asyncio.wait_for(objects.wrote.wait(), 20)
    assert objects.written[0]["state"] == "Misconfigured"
    assert "'nosuch' is none of" in objects.written[0]["conditions"][0]["message"]
    task = asyncio.create_task(guard.run())
    await asyncio.wait_for(guard.wait_synced(), 10)
    assert guard.unsettled == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
