"""What is known of each gate's ledger, now.

gate -> Secret -> address -> watcher. Each of them can change at any moment; the gate is then bound anew at once.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.cache.gates import GateCache
from webhook.core.gate import Gate
from webhook.core.status import Problem
from webhook.kube.reflector import Key
from webhook.ledgers.bindings import LedgerBinding
from webhook.ledgers.secrets import SecretApi, SecretFollower
from webhook.ledgers.watchers import LedgerWatchers
from webhook.telemetry import isolated


class LedgerRegistry:
    """The ledger of each gate in a cache, read for as long as the gate exists.

    Args:
        gates: the gates, which run on their own.
        secrets: where their Secrets are.
        identity: shown in the databases' lists of sessions.
        on_change: called with a gate's key after the gate, or what is known of its ledger, has changed.
        on_read: called with the seconds that each read of a ledger took.
    """

    def __init__(
        self,
        gates: GateCache,
        secrets: SecretApi,
        identity: str,
        on_change: Callable[[Key], None] = lambda _: None,
        on_read: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._gates = gates
        self._secret_api = secrets
        self._identity = identity
        self._on_change = on_change
        self._on_read = on_read
        self._bindings: dict[Key, LedgerBinding] = {}
        self._running = False
        gates.subscribe(self._gate_changed)

    async def run(self) -> None:
        """Follow the ledgers of the gates until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._watchers = LedgerWatchers(group, self._on_change, self._on_read, f"ledgergate {self._identity}")
            self._secrets = SecretFollower(self._secret_api, group, self._secret_changed)
            self._running = True
            try:
                # The cache may have run before: its changes were ignored until now, without a group for watchers.
                for key in self._gates.keys:
                    with isolated("gate.failed", gate="/".join(key)):
                        self._gate_changed(key)
                await asyncio.get_running_loop().create_future()  # the group's tasks do the work
            finally:
                self._running = False

    def first_read_done(self, key: Key) -> bool:
        """Return whether a gate's ledger was read or found to be unreadable; True where there is no such gate."""
        binding = self._bindings.get(key)
        return binding.first_read_done if binding else self._gates.gate(key) is None

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is known of a gate's ledger, without I/O."""
        binding = self._bindings.get(gate.key)
        if binding is None:
            return LedgerSnapshot(fault=Fault.UNREAD)
        return binding.snapshot(self._gates.gate(gate.key) or gate)

    def gates_with_snapshots(self, namespace: str, labels: Mapping[str, str]) -> Sequence[tuple[Gate, LedgerSnapshot]]:
        """Return the gates of a namespace that select these labels, each with what is known of its ledger."""
        return [(gate, self.snapshot(gate)) for gate in self._gates.selecting(namespace, labels)]

    def fingerprint(self, key: Key) -> str:
        """Return the fingerprint of the ledger that a gate's snapshot is of; empty where there is none."""
        binding = self._bindings.get(key)
        return binding.fingerprint if binding else ""

    def problems(self, key: Key) -> tuple[Problem, ...]:
        """Return what keeps a gate from working, each with its remedy."""
        binding = self._bindings.get(key)
        if binding is None:
            return ()
        return (*map(Problem, binding.gate.problems), *((binding.problem,) if binding.problem else ()))

    def set_urgent(self, key: Key, *, urgent: bool) -> None:
        """Poll a gate's ledger often, because pods wait for it, or seldom."""
        binding = self._bindings.get(key)
        if binding is not None and binding.watcher is not None and binding.watcher.urgent is not urgent:
            binding.watcher.urgent = urgent

    def _gate_changed(self, key: Key) -> None:
        if not self._running:
            return
        gate, binding = self._gates.gate(key), self._bindings.get(key)
        if self._gates.is_surplus(key):
            gate = None  # it counts for nothing, so its ledger is not read
        if gate is None:
            self._unbind(key)
        elif binding is None or binding.gate != gate:  # equal where it has only become undecodable, or decodable again
            self._bind(gate)
        self._on_change(key)

    def _bind(self, gate: Gate) -> None:
        binding = self._bindings.get(gate.key)
        before = binding.gate if binding else None
        if binding is None:
            binding = self._bindings[gate.key] = LedgerBinding(gate)
        binding.gate = gate
        # The new Secret first: where it is the same as before, its watch must not end in between.
        self._secrets.follow((gate.namespace, gate.secret))
        if before is not None:
            self._unfollow_unused((before.namespace, before.secret))
        binding.rebind(*self._secrets.source(gate), self._watchers)

    def _unbind(self, key: Key) -> None:
        binding = self._bindings.pop(key, None)
        if binding is not None:
            binding.rebind(None, None, self._watchers)
            self._unfollow_unused((binding.gate.namespace, binding.gate.secret))

    def _unfollow_unused(self, secret: Key) -> None:
        if not any((found.gate.namespace, found.gate.secret) == secret for found in self._bindings.values()):
            self._secrets.unfollow(secret)

    def _secret_changed(self, secret: Key) -> None:
        for key, binding in tuple(self._bindings.items()):
            if (binding.gate.namespace, binding.gate.secret) == secret:
                with isolated("gate.failed", gate="/".join(key)):
                    binding.rebind(*self._secrets.source(binding.gate), self._watchers)
                    self._on_change(key)
