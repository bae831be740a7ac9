"""How often an owner is woken: once for each change, then with back-off while it stays stuck."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from migrations.core.ledger import Ledger
from migrations.core.snapshot import LedgerSnapshot
from tests.object_feeds import Objects, a_gate, until
from webhook.api.namespace import OptIn
from webhook.api.objects import LedgerGate, Metadata
from webhook.api.owners import Owner, OwnerKind
from webhook.cache.gates import GateCache
from webhook.controller.owner_wakeup import OwnerWakeup, WakeTrigger, _should_wake, _WakeBackoff
from webhook.core.gate import Gate, parse_gate
from webhook.kube.reflector import Key
from webhook.telemetry import Telemetry

if TYPE_CHECKING:
    from webhook.ledgers.registry import LedgerRegistry

CHANGE, RECHECK, SWEEP = WakeTrigger.CHANGE, WakeTrigger.RECHECK, WakeTrigger.SWEEP
REFUSED = {"type": "ReplicaFailure", "status": "True", "message": 'webhook "deny.ledgergate.dev" denied the request'}


def replica_set(generation: int = 1, *, refused: bool = True, namespace: str = "") -> Owner:
    status: dict[str, Any] = {"conditions": [REFUSED] if refused else []}
    metadata = {"namespace": namespace, "name": "a", "uid": f"u{namespace}", "generation": generation}
    return msgspec.convert({"metadata": metadata, "spec": {"replicas": 3}, "status": status}, Owner)


def woken(owner: Owner, *triggers: WakeTrigger, backoffs: dict[str, _WakeBackoff] | None = None) -> str:
    backoffs = {} if backoffs is None else backoffs
    return "".join(
        "x" if _should_wake(OwnerKind.REPLICA_SET, owner, trigger, backoffs) else "." for trigger in triggers
    )


def test_a_change_wakes_once() -> None:
    """Further changes do not wake an owner that is still short of pods."""
    assert woken(replica_set(), CHANGE, CHANGE, CHANGE) == "x.."
    assert woken(replica_set(refused=False), CHANGE, RECHECK, SWEEP, SWEEP) == "x..."


def test_an_owner_that_was_refused_again_is_woken_by_the_recheck() -> None:
    """A webhook replica that sees the change later than the controller may refuse the new pods once more."""
    assert woken(replica_set(), CHANGE, RECHECK) == "xx"


def test_an_owner_that_no_change_woke_is_found_by_the_sweep() -> None:
    """The sweep wakes an owner whose condition says that its pods were refused, and no other."""
    assert woken(replica_set(), SWEEP) == "x"
    assert woken(replica_set(refused=False), SWEEP) == "."


def test_an_owner_that_stays_stuck_is_woken_with_backoff() -> None:
    """The pauses are one, two, four, four ... sweeps, so that a webhook that is dead for an hour costs few patches."""
    assert woken(replica_set(), *[SWEEP] * 16) == "xx.x...x...x...x"


def test_a_new_generation_starts_anew() -> None:
    """An owner with a new template is woken without back-off."""
    backoffs: dict[str, _WakeBackoff] = {}
    assert woken(replica_set(), CHANGE, backoffs=backoffs) == "x"
    assert woken(replica_set(generation=2), CHANGE, CHANGE, backoffs=backoffs) == "x."


class Owners:
    """One ReplicaSet whose pods were refused."""

    def __init__(self) -> None:
        self.refused = True
        self.woken: list[str] = []
        self.listed: list[str] = []

    async def owners_short_of_pods(self, kind: OwnerKind, namespace: str, *, cached: bool) -> Sequence[Owner]:
        """List it, or one in each of many namespaces."""
        del cached
        self.listed.append(namespace)
        if kind is not OwnerKind.REPLICA_SET or not self.refused:
            return []
        names = [namespace] if namespace else [f"ns-{number}" for number in range(30)]
        return [replica_set(namespace=name) for name in names]

    async def wake(self, kind: OwnerKind, owner: Metadata, at: datetime) -> None:
        """Note that it was woken."""
        del kind, at
        self.woken.append("/".join(owner.key))


class Empty:
    """A ledger without migrations, under every gate; which gates were marked as urgent is noted."""

    def __init__(self, gates: GateCache) -> None:
        self.gates = gates
        self.urgent: list[Key] = []

    def gates_with_snapshots(self, namespace: str, labels: dict[str, str]) -> Sequence[tuple[Gate, LedgerSnapshot]]:
        """Return the gates, each with the ledger."""
        return [(gate, LedgerSnapshot(Ledger())) for gate in self.gates.selecting(namespace, labels)]

    def set_urgent(self, key: Key, *, urgent: bool) -> None:
        """Note it."""
        assert urgent
        self.urgent.append(key)


async def test_a_ledger_that_denied_pods_wait_for_is_urgent() -> None:
    """Denied pods do not exist, so only their owner shows that they wait; the urgency ends when it lacks no pods."""
    objects, owners = Objects(), Owners()
    gates = GateCache(objects)
    gates._put(_denying())
    ledgers = Empty(gates)
    wakeup = OwnerWakeup(
        owners,
        gates,
        cast("LedgerRegistry", ledgers),
        Telemetry(),
        admission=lambda _: OptIn.ENABLED,
        now=lambda: datetime(2026, 1, 26, tzinfo=UTC),
    )
    task = asyncio.create_task(wakeup.run())
    try:
        await asyncio.sleep(0)
        wakeup.enqueue("ns")
        await until(lambda: ledgers.urgent)
        assert wakeup.awaits(("ns", "app"))
        assert owners.woken == []
        owners.refused = False
        wakeup.enqueue("ns")
        await until(lambda: not wakeup.awaits(("ns", "app")))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("count", [3, 20])
async def test_a_sweep_wakes_the_owners_in_every_namespace_with_a_gate_at_little_cost(count: int) -> None:
    """It lists those of few namespaces one by one, else those of the cluster; no owner elsewhere is woken."""
    objects, owners = Objects(), Owners()
    gates = GateCache(objects)
    watched = [f"ns-{number}" for number in range(count)]
    for name in (*watched, "ns-25"):
        gates._put(parse_gate(of(name, a_gate())))
    wakeup = OwnerWakeup(
        owners,
        gates,
        cast("LedgerRegistry", Empty(gates)),
        Telemetry(),
        admission=lambda name: OptIn.OFF if name == "ns-25" else OptIn.ENABLED,
        now=lambda: datetime(2026, 1, 26, tzinfo=UTC),
    )
    await wakeup.sweep()
    assert sorted(owners.woken) == sorted(f"{name}/a" for name in watched)
    assert len(owners.listed) == (4 * count if count < 9 else 4)
    owners.refused = False
    await wakeup.sweep()
    owners.refused = True
    await wakeup.sweep()
    assert len(owners.woken) == 2 * count, "an owner that was not short of pods any more is forgotten"


def of(namespace: str, gate: LedgerGate) -> LedgerGate:
    """Return the gate, moved to another namespace."""
    return msgspec.structs.replace(gate, metadata=msgspec.structs.replace(gate.metadata, namespace=namespace))


def _denying() -> Gate:
    return parse_gate(a_gate(onBehind="Deny", onUndeclared="Deny"))
