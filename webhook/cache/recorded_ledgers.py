"""What the gates' statuses say of their ledgers: admission's view, without a database."""

from dataclasses import replace
from datetime import datetime
from typing import Protocol

from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.cache.gates import GateCache
from webhook.core.gate import Gate
from webhook.core.history import recall_snapshot
from webhook.kube.reflector import Key


class Leader(Protocol):
    """The controller that leads, if any."""

    @property
    def leads(self) -> bool:
        """Whether there is one."""

    def vouches_for(self, read_at: datetime | None) -> bool:
        """Return whether a reading is current."""


class RecordedLedgers:
    """The snapshot in the status of each gate of a cache, rebuilt once for each status.

    Args:
        leader: shows whether a controller keeps the statuses up to date. A ledger whose status is not up to date counts
            as unreachable.
    """

    def __init__(self, gates: GateCache, leader: Leader) -> None:
        self._gates = gates
        self._leader = leader
        self._rebuilt: dict[Key, tuple[Gate, LedgerSnapshot]] = {}
        gates.subscribe(self._gate_changed)

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is known of a gate's ledger, without I/O."""
        newest = self._gates.gate(gate.key) or gate
        found = self._rebuilt.get(gate.key)
        # A new status brings a new Gate, but no call of `_gate_changed`; gates that differ in it alone are equal.
        if found is None or found[0] is not newest:
            found = self._rebuilt[gate.key] = newest, recall_snapshot(newest)
        snapshot = found[1]
        if self._leader.vouches_for(snapshot.observed_at) or (snapshot.fault is Fault.PENDING and self._leader.leads):
            return snapshot
        return replace(snapshot, fault=Fault.UNREACHABLE)

    def _gate_changed(self, key: Key) -> None:
        self._rebuilt.pop(key, None)
