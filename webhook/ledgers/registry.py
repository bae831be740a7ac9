"""What both roles look at: which gates there are, and what the ledger of each one says.

gate -> Secret -> address -> watcher. Any of them can change at any moment; the line is then laid anew at once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.api.objects import LedgerGate, Metadata
from webhook.core.gate import Gate, parse_gate
from webhook.core.status import Problem
from webhook.kube.errors import ClusterError
from webhook.kube.reflector import Feed, Key, Reflector, Unreadable
from webhook.ledgers.bindings import LedgerBinding, Ledgers
from webhook.ledgers.secrets import SecretApi, SecretFollower
from webhook.telemetry import log_event


class GateApi(SecretApi, Protocol):
    """Where the guard finds gates and Secrets."""

    def ledger_gates(self) -> Feed[LedgerGate]:
        """Every LedgerGate."""


class GateCache:
    """The gates of a cluster and their ledgers, as they are now.

    Args:
        objects: the cluster.
        identity: what the databases' lists of sessions show.
        on_change: called with a gate's key whenever the gate, or what is known of its ledger, has changed or gone.
        on_read: called with the seconds that each reading of a ledger took.
    """

    def __init__(
        self,
        objects: GateApi,
        identity: str,
        on_change: Callable[[Key], None] = lambda _: None,
        on_read: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._on_read = on_read
        self._objects = objects
        self._identity = identity
        self._on_change = on_change
        self._gates = Reflector(
            objects.ledger_gates(), self._gate_changed, on_failure=_log_failure, on_unreadable=on_change
        )
        self._lines: dict[Key, LedgerBinding] = {}
        self._by_namespace: defaultdict[str, dict[Key, Gate]] = defaultdict(dict)

    async def run(self) -> None:
        """Follow everything until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._ledgers = Ledgers(group, self._on_change, self._on_read, f"ledgergate {self._identity}")
            self._credentials = SecretFollower(self._objects, group, self._secret_changed)
            await self._gates.run()

    @property
    def synced(self) -> bool:
        """Whether every gate is known."""
        return self._gates.synced

    async def wait_synced(self) -> None:
        """Wait until every gate is known."""
        await self._gates.wait_synced()

    @property
    def unsettled(self) -> Sequence[Key]:
        """The gates whose ledger was neither read yet nor found unreadable."""
        return [key for key, line in self._lines.items() if not line.settled]

    @property
    def namespaces(self) -> Collection[str]:
        """The namespaces that have a gate."""
        return {namespace for namespace, _ in self._lines}

    def settled(self, key: Key) -> bool:
        """Tell whether a gate's ledger was read or found unreadable; a gate that is gone has nothing to wait for."""
        line = self._lines.get(key)
        return line is None or line.settled

    def gate(self, key: Key) -> Gate | None:
        """One gate; None where there is none of that name."""
        line = self._lines.get(key)
        return line.gate if line else None

    def metadata(self, key: Key) -> Metadata | None:
        """The metadata of a gate's object, also of one that cannot be decoded."""
        found = self._gates.objects.get(key) or self._gates.unreadable.get(key)
        return found.metadata if found else None

    def unreadable(self, key: Key) -> Unreadable | None:
        """One gate that this version of ours cannot decode as it stands; its former state, if any, stays in force."""
        return self._gates.unreadable.get(key)

    def blind(self, namespace: str) -> bool:
        """Tell whether a namespace has a gate that was never decoded, so that whom it selects is not known."""
        return any(key[0] == namespace and key not in self._lines for key in self._gates.unreadable)

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the gates of a namespace that select these labels."""
        return [gate for gate in self._by_namespace.get(namespace, {}).values() if gate.selector.matches(labels)]

    def guarding(self, namespace: str, labels: Mapping[str, str]) -> Sequence[tuple[Gate, LedgerSnapshot]]:
        """Return the gates of a namespace that select these labels, each with what is known of its ledger."""
        return [(gate, self.snapshot(gate)) for gate in self.selecting(namespace, labels)]

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is known of a gate's ledger, without I/O."""
        line = self._lines.get(gate.key)
        return line.snapshot if line else LedgerSnapshot(fault=Fault.UNREAD)

    def place(self, key: Key) -> str:
        """Return the fingerprint of the ledger that a gate's reading is of; empty where there is none."""
        line = self._lines.get(key)
        return line.place if line else ""

    def problems(self, key: Key) -> tuple[Problem, ...]:
        """Say what keeps a gate from working, each with its remedy."""
        line = self._lines.get(key)
        if line is None:
            return ()
        return (*map(Problem, line.gate.problems), *((line.problem,) if line.problem else ()))

    async def refresh(self, gates: Iterable[Gate], within: float) -> None:
        """Read these gates' ledgers again, all at once, for at most ``within`` seconds."""
        lines = (self._lines.get(gate.key) for gate in gates)
        watchers = {line.source: line.watcher for line in lines if line is not None and line.watcher is not None}
        await asyncio.gather(*(watcher.fresh(within) for watcher in watchers.values()))

    def set_urgent(self, key: Key, *, urgent: bool) -> None:
        """Have a gate's ledger looked at often, because pods wait for it, or seldom."""
        line = self._lines.get(key)
        if line is not None and line.watcher is not None and line.watcher.urgent is not urgent:
            line.watcher.urgent = urgent

    def _gate_changed(self, old: LedgerGate | None, new: LedgerGate | None) -> None:
        found = new or old
        if found is None:
            return
        key = found.metadata.key
        if new is None:
            self._drop(key)
        elif not self._take(key, parse_gate(new)):
            return
        self._on_change(key)

    def _take(self, key: Key, gate: Gate) -> bool:
        """Take a gate as it is now; tell whether that is news."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = LedgerBinding(gate)
        elif line.gate == gate:
            line.gate = self._by_namespace[key[0]][key] = gate
            return False
        before, line.gate = line.gate, gate
        self._by_namespace[key[0]][key] = gate
        self._credentials.follow((gate.namespace, gate.secret))
        self._unfollow((before.namespace, before.secret))
        line.rebind(*self._credentials.source(gate), self._ledgers)
        return True

    def _drop(self, key: Key) -> None:
        line = self._lines.pop(key)
        del self._by_namespace[key[0]][key]
        line.rebind(None, None, self._ledgers)
        self._unfollow((line.gate.namespace, line.gate.secret))

    def _unfollow(self, secret: Key) -> None:
        if not any((line.gate.namespace, line.gate.secret) == secret for line in self._lines.values()):
            self._credentials.unfollow(secret)

    def _secret_changed(self, secret: Key) -> None:
        for key, line in tuple(self._lines.items()):
            if (line.gate.namespace, line.gate.secret) == secret:
                line.rebind(*self._credentials.source(line.gate), self._ledgers)
                self._on_change(key)


def _log_failure(failure: ClusterError | None) -> None:
    if failure is not None:
        log_event("gates.unreadable", error=str(failure))
