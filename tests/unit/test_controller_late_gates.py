"""How long a held pod that no LedgerGate selects waits for one."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from webhook.api.objects import Metadata, Pod
from webhook.controller.held_pods import HeldPod
from webhook.controller.late_gates import LATE_GATE_SECONDS, LateGates
from webhook.core.gate import Gate
from webhook.core.pod_verdict import AWAITING, UNSELECTED, PodVerdict
from webhook.core.selector import Selector
from webhook.core.verdict import Outcome, Reason, Verdict
from webhook.kube.reflector import Key

SEEN = 1000.0
GATE = Gate("shop", "app", Selector(), "pg", "ledgergate")


@dataclass
class World:
    """The gates and the label of one namespace.

    Args:
        label: whether it has pods wait; None where that is not certain.
        unreadable: a gate cannot be decoded.
    """

    label: bool | None = False
    gates: list[Gate] = field(default_factory=list)
    unreadable: bool = False
    now: float = SEEN
    asked: int = 0

    def waits(self, name: str, since: float) -> bool | None:
        """Return what is known of the label."""
        assert (name, since) == ("shop", SEEN)
        self.asked += 1
        return self.label

    def gate(self, key: Key) -> Gate | None:
        """Return a gate that is there."""
        return next((each for each in self.gates if each.key == key), None)

    def has_unknown_selector(self, namespace: str) -> bool:
        """Return whether one cannot be decoded."""
        return namespace == "shop" and self.unreadable

    @property
    def late(self) -> LateGates:
        """The object under test, on these gates and this label."""
        return LateGates(self, self, lambda: self.now)


quarters = st.integers(0, 200).map(lambda count: count / 4)
"""Seconds, which add up without an error."""


def held(**annotations: str) -> HeldPod:
    declared = {f"ledgergate.dev/{name}": text for name, text in annotations.items()}
    pod = Pod(metadata=Metadata(name="web", namespace="shop", annotations=declared))
    return HeldPod(pod, SEEN, datetime(2026, 1, 26, tzinfo=UTC))


def test_the_label_decides_about_what_declares_nothing() -> None:
    """Set: it waits. Not set: it starts at once. Not certain yet: it waits, and no Event says why."""
    for label, verdict, certain in ((True, AWAITING, True), (None, AWAITING, False), (False, UNSELECTED, True)):
        world = World(label)
        found = world.late.judge(held(), PodVerdict(UNSELECTED)).final
        assert found is verdict
        assert world.late.is_certain(held(), found) is certain


def test_the_label_is_asked_for_only_where_it_matters() -> None:
    """Not for a migrator, nor for a pod that has another verdict: a storm of held pods must not read namespaces."""
    world = World(label=True)
    behind = PodVerdict(Verdict(Reason.BEHIND, Outcome.HOLD, "", "app"))
    assert world.late.judge(held(), behind) is behind
    assert world.late.judge(held(migrates="app"), PodVerdict(UNSELECTED)).final is UNSELECTED
    assert world.late.is_certain(held(), behind.final)
    assert world.asked == 0


@given(quarters, st.none() | quarters)
def test_the_wait_ends(passed: float, unclaimed: float | None) -> None:
    """After the grace since the pod was first seen, or since its last gate was deleted; never before."""
    world, pod = World(now=SEEN + passed), held()
    pod.unclaimed_since = None if unclaimed is None else SEEN + unclaimed
    left = world.late.seconds_left(pod)
    assert (left <= 0) is (passed >= LATE_GATE_SECONDS + (unclaimed or 0.0))
    assert left <= LATE_GATE_SECONDS + (unclaimed or 0.0)


def test_a_gate_that_does_not_select_it_any_more_lets_it_go() -> None:
    """An edited selector releases the pod at once, as the edit was meant; a deleted gate may be created again."""
    pod = held()
    pod.claimed_by, pod.unclaimed_since = frozenset([GATE.key]), SEEN
    assert World(gates=[GATE]).late.seconds_left(pod) == 0
    assert World().late.seconds_left(pod) == LATE_GATE_SECONDS


def test_a_gate_that_cannot_be_decoded_may_select_any_pod() -> None:
    """No pod of its namespace starts, however long the gate stays unreadable."""
    assert World(unreadable=True, now=SEEN + 1000).late.seconds_left(held()) == math.inf
