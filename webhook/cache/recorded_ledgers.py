"""What the gates' statuses say of their ledgers: admission's view, without a database."""

from collections.abc import Callable
from dataclasses import replace

from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.cache.gates import GateCache
from webhook.core.gate import Gate
from webhook.core.history import recall_snapshot
from webhook.kube.reflector import Key


class RecordedLedgers:
    """The snapshot in the status of each gate of a cache, rebuilt once for each status.

    Args:
        leads: whether a controller keeps the statuses up to date; while none does, every ledger is unreachable.
    """

    def __init__(self, gates: GateCache, leads: Callable[[], bool]) -> None:
        self._gates = gates
        self._leads = leads
        self._rebuilt: dict[Key, tuple[Gate, LedgerSnapshot]] = {}
        gates.subscribe(self._gate_changed)

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is known of a gate's ledger, without I/O."""
        newest = self._gates.gate(gate.key) or gate
        found = self._rebuilt.get(gate.key)
        if found is None or found[0] is not newest:
            found = self._rebuilt[gate.key] = newest, recall_snapshot(newest)
        return found[1] if self._leads() else replace(found[1], fault=Fault.UNREACHABLE)

    def _gate_changed(self, key: Key) -> None:
        self._rebuilt.pop(key, None)
