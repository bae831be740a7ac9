"""What both roles look at: which gates there are, and what the ledger of each one says.

gate -> Secret -> address -> watcher. Any of them can change at any moment; the line is then laid anew at once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from migrations.database import Address, AddressError
from migrations.dialects import DIALECTS
from migrations.reader import Source
from migrations.reading import Fault, Reading
from webhook.errors import ClusterError, Forbidden
from webhook.gate import Gate, read_gate
from webhook.ledgers import Ledgers, Line
from webhook.objects import LedgerGate, Secret
from webhook.reflector import Feed, Key, Reflector
from webhook.telemetry import event


class Objects(Protocol):
    """Where the guard finds gates and Secrets."""

    def ledger_gates(self) -> Feed[LedgerGate]:
        """Every LedgerGate."""

    def secret(self, namespace: str, name: str) -> Feed[Secret]:
        """One Secret."""


@dataclass(slots=True)
class _FollowedSecret:
    reflector: Reflector[Secret]
    task: asyncio.Task[None]
    failure: ClusterError | None = None


class Guard:
    """The gates of a cluster and their ledgers, as they are now.

    Args:
        objects: the cluster.
        identity: what the databases' lists of sessions show.
        on_change: called with a gate's key whenever the gate, or what is known of its ledger, has changed or gone.
    """

    def __init__(self, objects: Objects, identity: str, on_change: Callable[[Key], None] = lambda _: None) -> None:
        self._objects = objects
        self._identity = identity
        self._on_change = on_change
        self._gates = Reflector(objects.ledger_gates(), self._gate_changed, on_failure=_log_failure)
        self._lines: dict[Key, Line] = {}
        self._by_namespace: defaultdict[str, dict[Key, Gate]] = defaultdict(dict)
        self._secrets: dict[Key, _FollowedSecret] = {}

    async def run(self) -> None:
        """Follow everything until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._ledgers = Ledgers(group, self._on_change, f"ledgergate {self._identity}")
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

    def settled(self, key: Key) -> bool:
        """Tell whether a gate's ledger was read or found unreadable; a gate that is gone has nothing to wait for."""
        line = self._lines.get(key)
        return line is None or line.settled

    def gate(self, key: Key) -> Gate | None:
        """One gate; None where there is none of that name."""
        line = self._lines.get(key)
        return line.gate if line else None

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the gates of a namespace that select these labels."""
        return [gate for gate in self._by_namespace.get(namespace, {}).values() if gate.selector.matches(labels)]

    def reading(self, gate: Gate) -> Reading:
        """Return what is known of a gate's ledger, without I/O."""
        line = self._lines.get(gate.key)
        return line.reading if line else Reading(fault=Fault.UNREAD)

    def problems(self, key: Key) -> tuple[str, ...]:
        """Say what keeps a gate from working, each with its remedy."""
        line = self._lines.get(key)
        if line is None:
            return ()
        return (*line.gate.problems, *((line.problem,) if line.problem else ()))

    async def refresh(self, gates: Iterable[Gate], within: float) -> None:
        """Read these gates' ledgers again, all at once, for at most ``within`` seconds."""
        lines = (self._lines.get(gate.key) for gate in gates)
        watchers = {line.source: line.watcher for line in lines if line is not None and line.watcher is not None}
        await asyncio.gather(*(watcher.fresh(within) for watcher in watchers.values()))

    def hasten(self, key: Key, *, urgent: bool) -> None:
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
        elif not self._take(key, read_gate(new)):
            return
        self._on_change(key)

    def _take(self, key: Key, gate: Gate) -> bool:
        """Take a gate as it is now; tell whether that is news."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(gate)
        elif line.gate == gate:
            line.gate = self._by_namespace[key[0]][key] = gate
            return False
        before, line.gate = line.gate, gate
        self._by_namespace[key[0]][key] = gate
        self._follow_secret((gate.namespace, gate.secret))
        self._forsake_secret((before.namespace, before.secret))
        line.lay(*self._source(gate), self._ledgers)
        return True

    def _drop(self, key: Key) -> None:
        line = self._lines.pop(key)
        del self._by_namespace[key[0]][key]
        line.lay(None, "", self._ledgers)
        self._forsake_secret((line.gate.namespace, line.gate.secret))

    def _follow_secret(self, key: Key) -> None:
        if key not in self._secrets:
            reflector = Reflector(
                self._objects.secret(*key),
                lambda _old, _new: self._secret_changed(key),
                on_failure=lambda failure: self._secret_failed(key, failure),
            )
            self._secrets[key] = _FollowedSecret(reflector, self._group.create_task(reflector.run()))

    def _forsake_secret(self, key: Key) -> None:
        if not any((line.gate.namespace, line.gate.secret) == key for line in self._lines.values()):
            self._secrets.pop(key).task.cancel()

    def _secret_changed(self, key: Key) -> None:
        for gate_key, line in tuple(self._lines.items()):
            if (line.gate.namespace, line.gate.secret) == key:
                line.lay(*self._source(line.gate), self._ledgers)
                self._on_change(gate_key)

    def _secret_failed(self, key: Key, failure: ClusterError | None) -> None:
        """Note a failure, or its end. The end of the first listing of nothing is news too: there is no such Secret."""
        followed = self._secrets.get(key)
        if followed is None:
            return
        before, followed.failure = followed.failure, failure
        if failure is not None and type(failure) is not type(before):
            event("secret.unreadable", namespace=key[0], secret=key[1], error=str(failure))
        if failure is None or type(failure) is not type(before):
            self._secret_changed(key)

    def _source(self, gate: Gate) -> tuple[Source | None, str]:
        """Find where a gate's ledger is, or why that is not known."""
        if gate.dialect not in DIALECTS:
            return None, ""  # already among the gate's own problems
        key = gate.namespace, gate.secret
        followed = self._secrets[key]
        secret = followed.reflector.objects.get(key)
        if secret is None:
            return None, _no_secret(key, followed)
        try:
            address = Address.from_secret({name: value.decode() for name, value in (secret.data or {}).items()})
        except UnicodeDecodeError:
            return None, f"Secret {gate.secret}: a value is not UTF-8 text"
        except AddressError as error:
            return None, f"Secret {gate.secret}: {error}"
        return Source(address, DIALECTS[gate.dialect], gate.schema, gate.table), ""


def _no_secret(key: Key, followed: _FollowedSecret) -> str:
    namespace, name = key
    if isinstance(followed.failure, Forbidden):
        return (
            f"Secret {name} may not be read: grant get and watch on it to ledgergate's service accounts, with "
            f"`kubectl create role ledgergate-database -n {namespace} --verb=get,watch --resource=secrets "
            f"--resource-name={name}` and a RoleBinding"
        )
    if followed.failure is not None:
        return f"Secret {name} cannot be read now"
    # An empty answer means "not asked yet": it is no problem of the gate's, and it is over in a moment.
    return f"Secret {name} does not exist in namespace {namespace}; create it" if followed.reflector.synced else ""


def _log_failure(failure: ClusterError | None) -> None:
    if failure is not None:
        event("gates.unreadable", error=str(failure))
