"""What is known of each gate's ledger, now.

gate -> Secret -> database -> ledger. Each of them can change at any moment; the gate is then bound anew.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.background import start
from webhook.cache.gates import GateCache
from webhook.core.gate import Gate
from webhook.core.status import Problem
from webhook.kube.reflector import Key
from webhook.ledgers.bindings import LedgerBinding
from webhook.ledgers.database import PARALLEL_SECRETS, SESSIONS_PER_NAMESPACE, Readers, TenantDatabase
from webhook.ledgers.reader_pool import WORKERS, ReaderPool
from webhook.ledgers.secrets import SecretApi
from webhook.ledgers.turns import SESSIONS_PER_SERVER, Turns
from webhook.telemetry import isolated


class LedgerRegistry:
    """The ledger of each gate in a cache, read for as long as the gate exists.

    Args:
        gates: the gates, which run on their own.
        secrets: where their Secrets are.
        identity: shown in the databases' lists of sessions.
        on_change: called with a gate's key after the gate, or what is known of its ledger, has changed.
        on_read: called with the seconds that each read of a ledger took.
        workers: how many processes read.
        sessions_per_server: how many sessions a database server has at a time.
        allowed_hosts: the database servers that may be connected to, as :class:`HostPolicy` reads them; empty for any.
    """

    def __init__(
        self,
        gates: GateCache,
        secrets: SecretApi,
        identity: str,
        on_change: Callable[[Key], None] = lambda _: None,
        on_read: Callable[[float], None] = lambda _: None,
        *,
        workers: int = WORKERS,
        sessions_per_server: int = SESSIONS_PER_SERVER,
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        self._gates = gates
        self._on_change = on_change
        self._pool = ReaderPool(workers)
        self._readers = Readers(
            secrets,
            self._pool,
            Turns(sessions_per_server),
            Turns(SESSIONS_PER_NAMESPACE),
            f"ledgergate {identity}",
            on_change,
            on_read,
            asyncio.Semaphore(PARALLEL_SECRETS),
            tuple(allowed_hosts),
        )
        self._bindings: dict[Key, LedgerBinding] = {}
        self._databases: dict[Key, tuple[TenantDatabase, asyncio.Task[None]]] = {}
        self._running = False
        gates.subscribe(self._gate_changed)

    async def run(self) -> None:
        """Follow the ledgers of the gates until cancelled."""
        async with self._pool, asyncio.TaskGroup() as self._group:
            self._running = True
            try:
                # The cache may have run before: its changes were ignored until now, without a group for the visits.
                for key in self._gates.keys:
                    with isolated("gate.failed", gate="/".join(key)):
                        self._gate_changed(key)
                await asyncio.get_running_loop().create_future()  # the group's tasks do the work
            finally:
                self._running = False
                self._pool.stop()  # a worker that hangs must not delay the end of the leader's term

    @property
    def pids(self) -> Sequence[int]:
        """The process ids of the workers."""
        return self._pool.pids

    def may_write_status(self, key: Key) -> bool:
        """Return whether a gate's status may be written, see `LedgerBinding`; True where there is no such gate."""
        binding = self._bindings.get(key)
        return binding.may_write_status if binding else self._gates.gate(key) is None

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
        """Return the fingerprint of the ledger that a gate's snapshot describes; empty where there is none."""
        binding = self._bindings.get(key)
        return binding.fingerprint if binding else ""

    def problems(self, key: Key) -> tuple[Problem, ...]:
        """Return what keeps a gate from working, each with its remedy."""
        binding = self._bindings.get(key)
        if binding is None:
            return ()
        return (*map(Problem, binding.gate.problems), *((binding.problem,) if binding.problem else ()))

    def set_urgent(self, key: Key, *, urgent: bool) -> None:
        """Note whether pods wait for a gate's ledger, which is then followed closely."""
        binding = self._bindings.get(key)
        if binding is not None and binding.urgent is not urgent:
            binding.urgent = urgent
            self._databases[binding.gate.namespace, binding.gate.secret][0].set_urgent()

    def pod_created(self, key: Key, age: float) -> None:
        """Follow a gate's ledger for a while, because a pod was created that it selects.

        Args:
            age: seconds since the pod's creation.
        """
        binding = self._bindings.get(key)
        if binding is not None:
            self._databases[binding.gate.namespace, binding.gate.secret][0].pod_created(age)

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
        secret = gate.namespace, gate.secret
        if secret not in self._databases:
            database = TenantDatabase(secret, self._readers)
            task = start(self._group, database.run())
            if task is None:
                return
            self._databases[secret] = database, task
        binding = self._bindings.get(gate.key)
        if binding is None:
            binding = self._bindings[gate.key] = LedgerBinding(gate)
        elif binding.gate.secret != gate.secret:
            self._leave((gate.namespace, binding.gate.secret), gate.key)
        binding.gate = gate
        self._databases[secret][0].put(binding, edited=self._gates.synced)

    def _unbind(self, key: Key) -> None:
        binding = self._bindings.pop(key, None)
        if binding is not None:
            self._leave((binding.gate.namespace, binding.gate.secret), key)

    def _leave(self, secret: Key, gate: Key) -> None:
        database, task = self._databases[secret]
        database.remove(gate)
        if not database.bindings:
            del self._databases[secret]
            task.cancel()
            self._pool.forget(secret)
