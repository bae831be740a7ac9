"""The LedgerGates of the cluster, by namespace and selector, as the API server's watch shows them.

What their ledgers hold is in :mod:`webhook.ledgers.registry`.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from webhook.api.objects import LedgerGate, Metadata
from webhook.cache.gate_index import GateIndex
from webhook.core.gate import Gate, parse_gate
from webhook.kube.errors import ClusterError
from webhook.kube.reflector import Feed, Key, Reflector, Unreadable
from webhook.telemetry import isolated, log_event

GATES_PER_NAMESPACE = 100
"""LedgerGates of one namespace that count, unless a flag says otherwise."""


class GateApi(Protocol):
    """Where LedgerGates are listed and watched."""

    def ledger_gates(self) -> Feed[LedgerGate]:
        """Return the feed of every LedgerGate."""


class GateCache:
    """A local copy of every LedgerGate, parsed.

    Only the oldest gates of a namespace count, up to a limit; the surplus selects no pod. Every pod is judged under
    each gate that selects it, so without a limit one namespace could use up the time of all.

    Args:
        per_namespace: how many gates of a namespace count.
    """

    def __init__(self, api: GateApi, per_namespace: int = GATES_PER_NAMESPACE) -> None:
        self._reflector = Reflector(
            api.ledger_gates(), self._object_changed, on_failure=_log_failure, on_unreadable=self._notify
        )
        self._per_namespace = per_namespace
        self._by_namespace: dict[str, dict[Key, Gate]] = {}
        self._surplus: dict[str, dict[Key, Gate]] = {}
        self._indexes: dict[str, GateIndex] = {}  # by namespace, each built for the first pod after a change
        self._unparsable: dict[Key, Unreadable] = {}
        self._listeners: list[Callable[[Key], None]] = []

    def subscribe(self, listener: Callable[[Key], None]) -> None:
        """Call ``listener`` with a gate's key after each change of the gate.

        A gate changes when it is created, edited or deleted, or becomes undecodable or decodable again. An update of
        its status alone does not count: the controller wrote it, and a reaction to it would be a loop.
        """
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow the LedgerGates until cancelled."""
        await self._reflector.run()

    @property
    def synced(self) -> bool:
        """Whether the LedgerGates were listed at least once."""
        return self._reflector.synced

    async def wait_synced(self) -> None:
        """Wait until the LedgerGates were listed."""
        await self._reflector.wait_synced()

    @property
    def watch_problem(self) -> str:
        """Why the copy is not up to date; empty where it is, or has not been for a short time only."""
        return self._reflector.problem

    @property
    def keys(self) -> Sequence[Key]:
        """The keys of all gates, also of those that cannot be decoded."""
        decoded = (key for part in (self._by_namespace, self._surplus) for gates in part.values() for key in gates)
        return tuple(dict.fromkeys((*decoded, *self._reflector.unreadable, *self._unparsable)))

    @property
    def namespaces(self) -> Collection[str]:
        """The namespaces that have a gate; a copy, which later changes do not affect."""
        return frozenset(self._by_namespace)

    def gate(self, key: Key) -> Gate | None:
        """Return one gate; None where there is none of that name, or it was never decoded."""
        return self._by_namespace.get(key[0], {}).get(key) or self._surplus.get(key[0], {}).get(key)

    def is_surplus(self, key: Key) -> bool:
        """Return whether a gate does not count, because its namespace has too many older ones."""
        return key in self._surplus.get(key[0], {})

    def metadata(self, key: Key) -> Metadata | None:
        """Return the metadata of a gate's object, also of one that cannot be decoded."""
        found = self._reflector.objects.get(key) or self._reflector.unreadable.get(key)
        return found.metadata if found else None

    def unreadable(self, key: Key) -> Unreadable | None:
        """Return the error of a gate whose object cannot be decoded now; its last decoded state stays in force."""
        return self._reflector.unreadable.get(key) or self._unparsable.get(key)

    def has_unknown_selector(self, namespace: str) -> bool:
        """Return whether a namespace has a gate that was never decoded, so that it may select any pod."""
        unreadable = (*self._reflector.unreadable, *self._unparsable)
        return any(key[0] == namespace and self.gate(key) is None for key in unreadable)

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the gates of a namespace that select these labels."""
        index = self._indexes.get(namespace)
        if index is None:
            gates = self._by_namespace.get(namespace)
            if gates is None:
                return []
            index = self._indexes[namespace] = GateIndex(gates.values())
        return index.selecting(labels)

    def _object_changed(self, old: LedgerGate | None, new: LedgerGate | None) -> None:
        found = new or old
        if found is None:
            return
        key = found.metadata.key
        self._indexes.pop(key[0], None)
        self._unparsable.pop(key, None)
        if new is None:
            self._remove(key)
            self._notify(key)
            return
        try:
            gate = parse_gate(new)
        except Exception as error:  # noqa: BLE001 - treated as undecodable: its selector is not known
            self._unparsable[key] = Unreadable(new.metadata, f"{type(error).__name__}: {error}")
            log_event("gate.failed", level=logging.ERROR, trace=True, gate="/".join(key))
            self._notify(key)
            return
        if self._put(gate):
            self._notify(key)

    def _put(self, gate: Gate) -> bool:
        """Store a gate and return whether more than its status has changed (Gate's equality leaves the status out)."""
        before = self.gate(gate.key)
        surplus = self._surplus.get(gate.namespace, {})
        if gate.key in surplus:
            surplus[gate.key] = gate
            return gate != before
        counting = self._by_namespace.setdefault(gate.namespace, {})
        counting[gate.key] = gate
        if len(counting) > self._per_namespace:
            newest = max(counting.values(), key=_age)
            self._surplus.setdefault(gate.namespace, {})[newest.key] = counting.pop(newest.key)
            if newest.key != gate.key:  # the caller reports the gate itself
                self._notify(newest.key)
        return gate != before

    def _remove(self, key: Key) -> None:
        counting, surplus = self._by_namespace.get(key[0], {}), self._surplus.get(key[0], {})
        surplus.pop(key, None)
        if counting.pop(key, None) is not None and surplus:
            oldest = min(surplus.values(), key=_age)
            counting[oldest.key] = surplus.pop(oldest.key)
            self._notify(oldest.key)
        for part in (self._by_namespace, self._surplus):
            if not part.get(key[0], True):
                del part[key[0]]

    def _notify(self, key: Key) -> None:
        for listener in self._listeners:
            with isolated("gate.failed", gate="/".join(key)):
                listener(key)


def _age(gate: Gate) -> tuple[str, str]:
    return gate.created, gate.name


def _log_failure(failure: ClusterError | None) -> None:
    if failure is not None:
        log_event("gates.unreadable", error=str(failure))
