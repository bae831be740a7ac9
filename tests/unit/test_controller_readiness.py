"""The readiness of pods: written when it changes, once, and on the right pod."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.api.namespace import OptIn
from webhook.api.objects import Condition, Metadata, Pod, PodSpec, PodStatus, ReadinessGate
from webhook.controller.readiness import GRACE_SECONDS, ReadinessReconciler
from webhook.core.gate import Gate, Policy, Readiness
from webhook.core.selector import Selector
from webhook.kube.errors import Conflict, Unavailable
from webhook.kube.reflector import Change, ChangeKind, Feed

A, B = "20260101000000_a", "20260102000000_b"
NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)


def ledger(*names: str) -> LedgerSnapshot:
    return LedgerSnapshot(Ledger.of(Record(name, State.APPLIED) for name in names), NOW)


def a_pod(name: str, version: str = "1", **known: Any) -> Pod:
    metadata = Metadata(
        namespace="ns",
        name=name,
        uid=known.pop("uid", name),
        resource_version=version,
        annotations={"ledgergate.dev/revision": B},
    )
    gates = [ReadinessGate(condition_type="ledgergate.dev/app")]
    return Pod(metadata=metadata, spec=PodSpec(readiness_gates=gates), **known)


class World:
    """Pods, a gate, a ledger, a clock, and the conditions written."""

    def __init__(self, *pods: Pod, readiness: Readiness = Readiness.LIVE) -> None:
        self.pods = list(pods)
        self.policy = Policy(readiness=readiness)
        self.gates: dict[str, Gate] = {"app": self.gate()}
        self.snapshot = ledger(A, B)
        self.written: list[tuple[str, str, str]] = []
        self.failures: list[Exception] = []
        self.admission = OptIn.ENABLED
        self.clock = 100.0
        self.changed: asyncio.Queue[Change[Pod]] = asyncio.Queue()

    def gate(self) -> Gate:
        """Return the gate."""
        return Gate("ns", "app", Selector(), "pg", "ledgergate", policy=self.policy)

    def gated_pods(self) -> Feed[Pod]:
        """Return the feed."""
        return self

    async def list_objects(self) -> tuple[list[Pod], str]:
        """List."""
        return self.pods, "1"

    async def watch(self, resource_version: str) -> AsyncIterator[Change[Pod]]:
        """Watch."""
        del resource_version
        while True:
            yield await self.changed.get()

    async def patch_pod_conditions(self, pod: Metadata, conditions: Sequence[Mapping[str, str]]) -> None:
        """Keep what is written, after the failures that the test sets."""
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.written += [(pod.uid, found["status"], found["reason"]) for found in conditions]


@asynccontextmanager
async def reconciling(world: World) -> AsyncIterator[ReadinessReconciler]:
    async def known() -> None: ...

    gates = SimpleNamespace(wait_synced=known, gate=lambda key: world.gates.get(key[1]), unreadable=lambda _: None)
    ledgers = SimpleNamespace(snapshot=lambda _: world.snapshot)
    namespaces = SimpleNamespace(admission=lambda _name, _since: world.admission)
    reconciler = ReadinessReconciler(
        world,
        cast("Any", gates),
        cast("Any", ledgers),
        cast("Any", namespaces),
        now=lambda: NOW,
        monotonic=lambda: world.clock,
    )
    task = asyncio.create_task(reconciler.run())
    try:
        await asyncio.wait_for(reconciler._pods.wait_synced(), 30)
        yield reconciler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(world: World, count: int) -> None:
    """Wait for a number of writes, and check that no more follow."""
    async with asyncio.timeout(120):
        while len(world.written) < count:  # noqa: ASYNC110 - the world is a plain list
            await asyncio.sleep(0.001)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(world.written) == count


async def test_a_thousand_pods_cost_a_thousand_writes_and_then_none() -> None:
    """One each when they become ready, none while the ledger advances or is down, one when it loses the revision."""
    world = World(*(a_pod(f"p{number}") for number in range(1000)))
    async with reconciling(world) as reconciler:
        await until(world, 1000)
        assert set(world.written) == {(f"p{number}", "True", "Matches") for number in range(1000)}
        for head in range(20):
            world.snapshot = ledger(A, B, f"2026020100000{head}_c")
            reconciler.reconcile_namespace("ns")
        world.snapshot = LedgerSnapshot(world.snapshot.ledger, NOW, Fault.UNREACHABLE)
        reconciler.reconcile_namespace("ns")
        await until(world, 1000)
        world.snapshot = ledger(A)
        for _ in range(3):
            reconciler.reconcile_namespace("ns")
        await until(world, 2000)
        assert Counter(status for _, status, _ in world.written) == {"True": 1000, "False": 1000}


async def test_a_condition_that_is_right_is_not_written_again() -> None:
    """A controller that was restarted writes nothing where nothing has changed."""
    conditions = [Condition(type="ledgergate.dev/app", status="True", reason="Matches")]
    world = World(a_pod("p", status=PodStatus(conditions=conditions)))
    async with reconciling(world) as reconciler:
        reconciler.reconcile_namespace("ns")
        await until(world, 0)


async def test_a_write_that_fails_is_retried(monkeypatch: Any) -> None:
    """After a busy API server or a replaced pod, the retry writes what holds by then."""
    monkeypatch.setattr("webhook.controller.readiness.FIRST_RETRY_SECONDS", 0.01)
    world = World(a_pod("p", uid="old"))
    world.failures = [Unavailable("503: busy"), Conflict("409: another uid")]
    async with reconciling(world):
        world.changed.put_nowait(Change(ChangeKind.MODIFIED, "2", a_pod("p", "2", uid="new")))
        await until(world, 1)
        assert world.written == [("new", "True", "Matches")]


async def test_a_pod_whose_gate_is_late_is_not_ready() -> None:
    """The controller may see a LedgerGate later than the webhook: under Latch an early True would be final."""
    world = World(a_pod("p"), readiness=Readiness.LATCH)
    gate, world.snapshot = world.gates.pop("app"), ledger(A)
    async with reconciling(world) as reconciler:
        reconciler.reconcile_namespace("ns")
        await until(world, 0)
        world.gates["app"] = gate
        reconciler.reconcile_namespace("ns")
        await until(world, 1)
        assert world.written == [("p", "False", "Behind")]


async def test_a_timer_that_fires_early_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event loops round their timers: one that fires too soon must not leave the pod waiting for ever."""
    monkeypatch.setattr("webhook.controller.readiness.GRACE_SECONDS", 0.02)
    world = World(a_pod("p"))
    world.gates.clear()
    async with reconciling(world):
        await asyncio.sleep(0.05)  # the loop's clock has advanced; the world's, which decides, has not
        assert world.written == []
        world.clock += 1
        await until(world, 1)
        assert world.written == [("p", "True", "Unguarded")]


async def test_a_gate_that_is_gone_or_off_keeps_no_pod_from_being_ready() -> None:
    """A pod whose gate or namespace no longer guards it is made ready: only the controller can still do that."""
    for change in ("gone", "off", "elsewhere", "out"):
        world = World(a_pod("p"))
        world.snapshot = ledger(A)
        async with reconciling(world) as reconciler:
            await until(world, 1)
            world.clock += GRACE_SECONDS
            match change:
                case "gone":
                    del world.gates["app"]
                case "off":
                    world.policy = Policy(readiness=Readiness.OFF)
                    world.gates["app"] = world.gate()
                case "elsewhere":
                    other = Selector((("app", "In", frozenset({"another"})),))
                    world.gates["app"] = Gate("ns", "app", other, "pg", "ledgergate", policy=world.policy)
                case _:
                    world.admission = OptIn.OFF
            reconciler.reconcile_namespace("ns")
            await until(world, 2)
            assert world.written[1] == ("p", "True", "Unguarded")
