"""The held pods of the cluster: since when, for which gates, and what was reported of each. Counted as they change."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from webhook.api.objects import Pod
from webhook.kube.reflector import Key


@dataclass(slots=True)
class HeldPod:
    """One held pod.

    Args:
        first_seen: seconds of the monotonic clock.
        created: by the API server's clock.
        reported: the gates and reasons that had an Event; each once, however often they alternate.
        claimed_by: the gates that selected it, as of the last time that any did.
        unclaimed_since: since when none selects it, although one did; seconds of the monotonic clock.
        timer_set: it is reconciled again when the grace for a late gate has passed.
        waits_for: the names of the gates that it waits for.
        unknown_images: its images, as the pod names them, whose labels were missing when it was judged last.
        overdue: the names of the gates that have held it for longer than their ``maxHold``.
        next_overdue: when the next of the gates has held it for too long; None where none will.
    """

    pod: Pod
    first_seen: float
    created: datetime
    reported: set[tuple[str, str]] = field(default_factory=set)
    claimed_by: frozenset[Key] = frozenset()
    unclaimed_since: float | None = None
    timer_set: bool = False
    waits_for: frozenset[str] = frozenset()
    unknown_images: frozenset[str] = frozenset()
    overdue: set[str] = field(default_factory=set)
    next_overdue: datetime | None = None


class HeldCount(NamedTuple):
    """How many pods a gate holds, and how many of them for longer than its ``maxHold``."""

    held: int
    overdue: int


class HeldPods:
    """Every held pod, by namespace and name, and how many wait for each gate."""

    def __init__(self) -> None:
        self._pods: defaultdict[str, dict[Key, HeldPod]] = defaultdict(dict)
        self._waiting: Counter[Key] = Counter()
        self._overdue: Counter[Key] = Counter()

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
        self.set_waits(held, frozenset())
        key = held.pod.metadata.key
        del self._pods[key[0]][key]
        if not self._pods[key[0]]:
            del self._pods[key[0]]

    def set_waits(self, held: HeldPod, gates: frozenset[str]) -> frozenset[str]:
        """Note the names of the gates that a pod waits for, and return those whose count has changed."""
        namespace, before = held.pod.metadata.namespace, held.waits_for
        for counter, old, new in (
            (self._waiting, before, gates),
            (self._overdue, before & held.overdue, gates & held.overdue),
        ):
            counter.update((namespace, name) for name in new - old)
            for name in old - new:
                _decrease(counter, (namespace, name))
        held.waits_for = gates
        return before ^ gates

    def set_overdue(self, held: HeldPod, gate: str) -> None:
        """Note that a gate has held a pod for too long."""
        if gate not in held.overdue:
            held.overdue.add(gate)
            if gate in held.waits_for:
                self._overdue[held.pod.metadata.namespace, gate] += 1

    def count(self, gate: Key) -> HeldCount:
        """Return how many pods wait for a gate."""
        return HeldCount(self._waiting[gate], self._overdue[gate])

    def due(self, now: datetime) -> Iterator[HeldPod]:
        """Yield the pods that a gate may have held for too long, and that were not reported for it yet.

        Args:
            now: aware.
        """
        for namespace in self.namespaces:
            for held in self.of(namespace):
                if held.next_overdue is not None and held.next_overdue <= now:
                    yield held

    def _in(self, namespace: str) -> Mapping[Key, HeldPod]:
        return self._pods.get(namespace, {})


def _decrease(counter: Counter[Key], key: Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
