"""The held pods of a cluster: since when, for which gates, and what was said of each."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from webhook.api.objects import Pod
from webhook.core.gate import Gate
from webhook.core.pod_verdict import decide_pod
from webhook.core.verdict import Verdict
from webhook.kube.reflector import Key
from webhook.ledgers.registry import GateCache


@dataclass(slots=True)
class HeldPod:
    """One held pod.

    Args:
        since: when it was first seen, in seconds of a clock that never jumps.
        created: when the API server took it.
        told: the gates and reasons that an Event has named; each once, however often they change.
        claimed: a gate was seen to select it.
        awaited: somebody looks at it again when its gate is late.
        overdue: the gates that have held it for too long.
    """

    pod: Pod
    since: float
    created: datetime
    told: set[tuple[str, str]] = field(default_factory=set)
    claimed: bool = False
    awaited: bool = False
    overdue: set[str] = field(default_factory=set)


class HeldCount(NamedTuple):
    """How many pods a gate holds, and how many of them for too long."""

    held: int
    overdue: int


class HeldPods:
    """Every held pod, by namespace and name.

    Args:
        guard: the gates and their ledgers.
    """

    def __init__(self, guard: GateCache) -> None:
        self._guard = guard
        self._pods: defaultdict[str, dict[Key, HeldPod]] = defaultdict(dict)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that have held pods."""
        return tuple(self._pods)

    def of(self, namespace: str) -> tuple[HeldPod, ...]:
        """Return the held pods of a namespace."""
        return tuple(self._in(namespace).values())

    def get(self, key: Key) -> HeldPod | None:
        """Return one held pod."""
        return self._in(key[0]).get(key)

    def add(self, held: HeldPod) -> None:
        """Take one in."""
        key = held.pod.metadata.key
        self._pods[key[0]][key] = held

    def remove(self, held: HeldPod) -> None:
        """Let one go."""
        key = held.pod.metadata.key
        del self._pods[key[0]][key]
        if not self._pods[key[0]]:
            del self._pods[key[0]]

    def count(self, gate: Gate, now: datetime) -> HeldCount:
        """Count the pods that wait for a gate: whose verdict under it is bad, or which are good and about to go.

        Args:
            now: aware.
        """
        held = overdue = 0
        for found in self._in(gate.namespace).values():
            if gate.selector.matches(found.pod.labels) and self._waits(found.pod, gate, now):
                held += 1
                overdue += gate.name in found.overdue
        return HeldCount(held, overdue)

    def grown_overdue(self, now: datetime) -> Iterable[tuple[HeldPod, Gate, Verdict]]:
        """Give, each once, the pods that a gate has held for longer than its ``maxHold``, with the verdict.

        Args:
            now: aware.
        """
        for namespace in self.namespaces:
            for found in self.of(namespace):
                for gate in self._guard.selecting(namespace, found.pod.labels):
                    if gate.name in found.overdue or now - found.created < gate.policy.max_hold:
                        continue
                    verdict = decide_pod(found.pod, [(gate, self._guard.snapshot(gate))], now).final
                    if not verdict.outcome.good:
                        found.overdue.add(gate.name)
                        yield found, gate, verdict

    def _in(self, namespace: str) -> Mapping[Key, HeldPod]:
        return self._pods.get(namespace, {})

    def _waits(self, pod: Pod, gate: Gate, now: datetime) -> bool:
        guarding = self._guard.guarding(gate.namespace, pod.labels)
        if len(guarding) == 1:
            return True
        verdict = decide_pod(pod, guarding, now)
        own = [each.verdict for each in verdict.by_gate if each.gate.key == gate.key]
        return not all(each.outcome.good for each in own) or verdict.final.outcome.good
