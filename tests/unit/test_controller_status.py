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
from tests.object_feeds import Collection, Objects, a_gate, a_secret, until
from webhook.cache.gates import GateCache
from webhook.controller.held_pods import HeldCount
from webhook.controller.status import StatusReconciler
from webhook.core.gate import Gate
from webhook.kube.errors import Rejected
from webhook.ledgers.bindings import ledger_fingerprint
from webhook.ledgers.registry import LedgerRegistry
from webhook.telemetry import Telemetry

SINCE = "2026-01-01T00:00:00Z"
NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
NO_SERVER = "postgresql://u:p@127.0.0.1:1/app"


class StatusObjects(Objects):
    """One gate with a status of an earlier life, and its Secret; the statuses written are kept."""

    def __init__(self, url: str, dialect: str = "ledgergate") -> None:
        super().__init__()
        ready = {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
        status = {
            "place": ledger_fingerprint(LedgerSource(Address.from_url(url), DIALECTS["ledgergate"])),
            "history": [{"revision": "a", "observedAt": SINCE}],
            "conditions": [
                {"type": kind, "status": value, "lastTransitionTime": SINCE} for kind, value in ready.items()
            ],
        }
        self.gates = Collection(a_gate(status=status, ledger={"dialect": dialect}))
        self.secrets["ns", "pg"] = a_secret(url)
        self.written: list[Mapping[str, Any]] = []
        self.wrote = asyncio.Event()

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Keep what is written."""
        assert (namespace, name) == ("ns", "app")
        self.written.append(status)
        self.wrote.set()


class UnreadImages:
    """Images of which two cannot be read."""

    def status(self, gate: Gate) -> dict[str, Any]:
        """Return nothing."""
        del gate
        return {}

    def unresolved(self, gate: tuple[str, str]) -> int:
        """Return two."""
        assert gate == ("ns", "app")
        return 2

    def forget(self, gate: tuple[str, str]) -> None:
        """Do nothing."""


def reconciler(
    objects: StatusObjects, gates: GateCache, ledgers: LedgerRegistry, telemetry: Telemetry
) -> StatusReconciler:
    return StatusReconciler(
        objects,
        gates,
        ledgers,
        telemetry,
        images=UnreadImages(),
        count=lambda _: HeldCount(0, 0),
        awaited=lambda _: False,
        on_written=lambda _: None,
        emit=lambda _: None,
        now=lambda: NOW,
    )


@asynccontextmanager
async def reconciling(objects: StatusObjects) -> AsyncIterator[tuple[Telemetry, LedgerRegistry]]:
    """Run a status reconciler over one gate and its ledger, as a controller does."""
    telemetry = Telemetry()
    gates = GateCache(objects)
    ledgers = LedgerRegistry(gates, objects, "test", lambda key: status.enqueue(key))  # noqa: PLW0108 - it is made below
    status = reconciler(objects, gates, ledgers, telemetry)
    tasks = [asyncio.create_task(part.run()) for part in (ledgers, gates, status)]
    try:
        yield telemetry, ledgers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_restart_is_no_news(database: str) -> None:
    """Nothing is written before the first read: a gate that was ready stays ready, since the same time."""
    objects = StatusObjects(database)
    async with reconciling(objects):
        await asyncio.wait_for(objects.wrote.wait(), 20)
    first = objects.written[0]
    assert first["state"] == "Live"
    assert {condition["lastTransitionTime"] for condition in first["conditions"]} == {SINCE}


async def test_images_that_cannot_be_read_are_counted() -> None:
    """The metric of the alert and of the dashboard has the gate's figure, whatever the state of its ledger."""
    objects = StatusObjects(NO_SERVER)
    async with reconciling(objects) as (telemetry, _):
        await asyncio.wait_for(objects.wrote.wait(), 20)
    labels = {"namespace": "ns", "gate": "app"}
    assert telemetry.registry.get_sample_value("ledgergate_unresolved_images", labels) == 2


async def test_a_start_in_an_outage_says_so_and_keeps_what_was_read() -> None:
    """The status says that the database is down; neither it nor a metric presents the recorded history as a reading."""
    objects = StatusObjects(NO_SERVER)
    async with reconciling(objects) as (telemetry, _):
        await asyncio.wait_for(objects.wrote.wait(), 20)
    first = objects.written[0]
    assert first["state"] == "Unreachable"
    assert "applied" not in first
    labels = {"namespace": "ns", "gate": "app"}
    assert telemetry.registry.get_sample_value("ledgergate_ledger_applied", labels) is None
    assert telemetry.registry.get_sample_value("ledgergate_gate_state", labels | {"state": "Unreachable"}) == 1


@pytest.mark.parametrize("url", ["", "mysql://x"])
async def test_a_secret_that_cannot_be_used_is_reported_at_once(url: str) -> None:
    """What a person has to correct is written without waiting for a database."""
    objects = StatusObjects(NO_SERVER)
    objects.secrets["ns", "pg"] = a_secret(url)
    async with reconciling(objects):
        await asyncio.wait_for(objects.wrote.wait(), 20)
    assert objects.written[0]["state"] == "Misconfigured"
    assert objects.written[0]["conditions"][2]["status"] == "True"


async def test_an_unknown_dialect_is_reported_and_waited_for_by_no_replica(database: str) -> None:
    """Any tenant may write such a gate, so it affects no other gate, and no replica waits for its ledger."""
    objects = StatusObjects(database, dialect="nosuch")
    async with reconciling(objects) as (_, ledgers):
        await asyncio.wait_for(objects.wrote.wait(), 20)
        assert ledgers.may_write_status(("ns", "app"))
    assert objects.written[0]["state"] == "Misconfigured"
    assert "'nosuch' is not one of" in objects.written[0]["conditions"][0]["message"]


async def test_a_status_that_fails_is_tried_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refusal or an unexpected error the reconciler goes on, and backs off for that gate."""
    objects = StatusObjects(NO_SERVER, dialect="nonsense")
    attempts: list[float] = []
    errors = iter([Rejected("413: too large"), OverflowError("year"), Rejected("422: invalid"), UnicodeError("text")])
    write = objects.patch_gate_status

    async def fail(namespace: str, name: str, status: Mapping[str, Any]) -> None:
        attempts.append(asyncio.get_running_loop().time())
        for error in errors:
            raise error
        await write(namespace, name, status)

    monkeypatch.setattr(objects, "patch_gate_status", fail)
    async with reconciling(objects):
        await asyncio.wait_for(objects.wrote.wait(), 30)
    assert len(attempts) == 5
    assert attempts[-1] - attempts[-2] >= 2  # the fourth pause is 4 s, of which jitter may take half


async def test_a_refused_status_is_not_tried_at_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of a ledger or of pods do not retry a refused status before its back-off; an edit of the gate does."""
    objects = StatusObjects(NO_SERVER, dialect="nonsense")
    attempts: list[float] = []

    async def refuse(namespace: str, name: str, status: Mapping[str, Any]) -> None:
        del namespace, name, status
        attempts.append(asyncio.get_running_loop().time())
        raise Rejected("422: invalid")

    monkeypatch.setattr(objects, "patch_gate_status", refuse)
    gates = GateCache(objects)
    ledgers = LedgerRegistry(gates, objects, "test", lambda key: status.enqueue(key, changed=True))
    status = reconciler(objects, gates, ledgers, Telemetry())
    tasks = [asyncio.create_task(part.run()) for part in (ledgers, gates, status)]
    try:
        await until(lambda: attempts)
        end = asyncio.get_running_loop().time() + 2
        while asyncio.get_running_loop().time() < end:
            status.enqueue(("ns", "app"), changed=True)
            await asyncio.sleep(0.01)
        assert len(attempts) <= 4, "more often than its back-off allows"
        before = len(attempts)
        edited = a_gate(ledger={"dialect": "another"})
        objects.gates.put(
            msgspec.structs.replace(edited, metadata=msgspec.structs.replace(edited.metadata, generation=2))
        )
        await until(lambda: len(attempts) > before)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_gate_beyond_the_limit_says_so(database: str) -> None:
    """It is Misconfigured, its ledger is not read, and the condition says what to do."""
    objects = StatusObjects(database)
    gates = GateCache(objects, per_namespace=0)
    ledgers = LedgerRegistry(gates, objects, "test", lambda key: status.enqueue(key, changed=True))
    status = reconciler(objects, gates, ledgers, Telemetry())
    tasks = [asyncio.create_task(part.run()) for part in (ledgers, gates, status)]
    try:
        await asyncio.wait_for(objects.wrote.wait(), 20)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert objects.asked == []
    assert objects.written[0]["state"] == "Misconfigured"
    assert "selects no pod; delete some" in objects.written[0]["conditions"][0]["message"]
