"""The held pods of the cluster: since when, for which gates, and what was reported of each."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from webhook.api.objects import Pod
from webhook.cache.gates import GateCache
from webhook.core.gate import Gate
from webhook.core.pod_verdict import decide_pod
from webhook.core.verdict import Verdict
from webhook.kube.reflector import Key
from webhook.ledgers.registry import LedgerRegistry


@dataclass(slots=True)
class HeldPod:
    """One held pod.

    Args:
        first_seen: seconds of the monotonic clock.
        created: by the API server's clock.
        reported: the gates and reasons that had an Event; each once, however often they alternate.
        was_selected: a gate was seen to select it.
        timer_set: it is reconciled again when the grace for a late gate has passed.
        overdue: the names of the gates that have held it for longer than their ``maxHold``.
    """

    pod: Pod
    first_seen: float
    created: datetime
    reported: set[tuple[str, str]] = field(default_factory=set)
    was_selected: bool = False
    timer_set: bool = False
    overdue: set[str] = field(default_factory=set)


class HeldCount(NamedTuple):
    """How many pods a gate holds, and how many of them for longer than its ``maxHold``."""

    held: int
    overdue: int


class HeldPods:
    """Every held pod, by namespace and name."""

    def __init__(self, gates: GateCache, ledgers: LedgerRegistry) -> None:
        self._gates = gates
        self._ledgers = ledgers
        self._pods: defaultdict[str, dict[Key, HeldPod]] = defaultdict(dict)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that have held pods."""
        return tuple(self._pods)

    def of(self, namespace: str) -> tuple[HeldPod, ...]:
        """Return the held pods of a namespace."""
        return tuple(self._in(namespace).values())

    def get(self, key: Key) -> HeldPod | None:
        """Return one held pod; None where there is none of that name."""
        return self._in(key[0]).get(key)

    def add(self, held: HeldPod) -> None:
        """Add a held pod."""
        key = held.pod.metadata.key
        self._pods[key[0]][key] = held

    def remove(self, held: HeldPod) -> None:
        """Remove a pod that is gone, or held no more."""
        key = held.pod.metadata.key
        del self._pods[key[0]][key]
        if not self._pods[key[0]]:
            del self._pods[key[0]]

    def count(self, gate: Gate, now: datetime) -> HeldCount:
        """Count the pods that wait for a gate.

        Args:
            now: aware.
        """
        held = overdue = 0
        for found in self._in(gate.namespace).values():
            if gate.selector.matches(found.pod.labels) and self._waits_for(gate, found.pod, now):
                held += 1
                overdue += gate.name in found.overdue
        return HeldCount(held, overdue)

    def newly_overdue(self, now: datetime) -> Iterator[tuple[HeldPod, Gate, Verdict]]:
        """Yield, once each, the pods that a gate has held for longer than its ``maxHold``, with the verdict.

        Args:
            now: aware.
        """
        for namespace in self.namespaces:
            for found in self.of(namespace):
                for gate in self._gates.selecting(namespace, found.pod.labels):
                    if gate.name in found.overdue or now - found.created < gate.policy.max_hold:
                        continue
                    verdict = decide_pod(found.pod, [(gate, self._ledgers.snapshot(gate))], now).final
                    if not verdict.outcome.good:
                        found.overdue.add(gate.name)
                        yield found, gate, verdict

    def _in(self, namespace: str) -> Mapping[Key, HeldPod]:
        return self._pods.get(namespace, {})

    def _waits_for(self, gate: Gate, pod: Pod, now: datetime) -> bool:
        """Return whether it is this gate that a pod waits for, and not another one that selects it too.

        A pod that no gate holds any longer is about to be released; until then it counts for each of its gates.
        """
        selecting = self._ledgers.gates_with_snapshots(gate.namespace, pod.labels)
        if len(selecting) == 1:
            return True  # the usual case, and no reason to judge every held pod
        decided = decide_pod(pod, selecting, now)
        own = [decision.verdict for decision in decided.by_gate if decision.gate.key == gate.key]
        return decided.final.outcome.good or not all(verdict.outcome.good for verdict in own)
