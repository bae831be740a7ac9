"""How often an owner is woken: once for each change, then with back-off while it stays stuck."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

from migrations.core.ledger import Ledger
from migrations.core.snapshot import LedgerSnapshot
from tests.object_feeds import Objects, a_gate, until
from webhook.api.namespace import OptIn
from webhook.api.objects import Metadata
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


def replica_set(generation: int = 1, *, refused: bool = True) -> Owner:
    status: dict[str, Any] = {"conditions": [REFUSED] if refused else []}
    metadata = {"name": "a", "uid": "u", "generation": generation}
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
    """A webhook replica that learned of the change later than the controller has refused its pods."""
    assert woken(replica_set(), CHANGE, RECHECK) == "xx"


def test_an_owner_that_no_change_woke_is_found_by_the_sweep() -> None:
    """Refused while no webhook answered, or no controller led; only an owner whose condition says so."""
    assert woken(replica_set(), SWEEP) == "x"
    assert woken(replica_set(refused=False), SWEEP) == "."


def test_an_owner_that_stays_stuck_is_woken_with_backoff() -> None:
    """After one, two, four, four ... sweeps: a webhook that is dead for an hour costs about a hundred patches."""
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

    async def owners(self, kind: OwnerKind, namespace: str, *, cached: bool) -> Sequence[Owner]:
        """List it."""
        del namespace, cached
        return [replica_set(refused=self.refused)] if kind is OwnerKind.REPLICA_SET and self.refused else []

    async def wake(self, kind: OwnerKind, owner: Metadata, at: datetime) -> None:
        """Note that it was woken."""
        del kind, at
        self.woken.append(owner.name)


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
    """They do not exist, so nothing else shows that somebody waits; it ends with their owner's lack."""
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


def _denying() -> Gate:
    return parse_gate(a_gate(onBehind="Deny", onUndeclared="Deny"))
