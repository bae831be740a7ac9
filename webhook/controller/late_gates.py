"""Held pods that no LedgerGate selects: which of them wait for one, and for how long."""

import math
from collections.abc import Callable
from typing import Protocol

from webhook.controller.held_pods import HeldPod
from webhook.core.gate import Gate
from webhook.core.pod_verdict import AWAITING, PodVerdict, await_gate
from webhook.core.verdict import Verdict
from webhook.kube.reflector import Key

LATE_GATE_SECONDS = 10.0
"""How long a pod waits that no LedgerGate selects, if it declares a revision or its namespace has label
``ledgergate.dev/undeclared: wait``. Helm creates Deployments before custom resources, seconds apart; `kubectl replace
--force` deletes a gate and creates it again. A pod that its gate, which is still there, does not select any more is
released at once: that was meant. A finalizer would show what was meant by a deletion; but then a namespace with a
LedgerGate could not be deleted while ledgergate is down or uninstalled, which is worse than these seconds."""


class KnownGates(Protocol):
    """What is asked of the gates."""

    def gate(self, key: Key) -> Gate | None:
        """Return one gate; None where there is none of that name."""

    def has_unknown_selector(self, namespace: str) -> bool:
        """Return whether a namespace has a gate that may select any pod."""


class WaitLabels(Protocol):
    """What is asked of the namespaces."""

    def waits(self, name: str, since: float) -> bool | None:
        """Return whether the namespace's label makes its pods wait.

        Args:
            since: when the pod was first seen, in seconds of the monotonic clock.

        Returns:
            None where that is not certain yet for such a pod.
        """


class LateGates:
    """Decides which held pods wait for a LedgerGate that may still be created.

    Args:
        monotonic: seconds of the clock by which a held pod was first seen.
    """

    def __init__(self, gates: KnownGates, namespaces: WaitLabels, monotonic: Callable[[], float]) -> None:
        self._gates = gates
        self._namespaces = namespaces
        self._monotonic = monotonic

    def judge(self, held: HeldPod, decided: PodVerdict) -> PodVerdict:
        """Return the verdict on a pod, with its namespace's label; the label is read only where it matters."""
        waiting = await_gate(held.pod, decided)
        return decided if waiting is decided or self._waits(held) is False else waiting

    def is_certain(self, held: HeldPod, verdict: Verdict) -> bool:
        """Return whether it is certain that a pod with this verdict has to wait; if not, it will be in a moment."""
        return verdict is not AWAITING or self._waits(held) is not None

    def seconds_left(self, held: HeldPod) -> float:
        """Return for how long a pod that no gate selects has to wait yet; 0 or less where it may start."""
        if self._gates.has_unknown_selector(held.pod.metadata.namespace):
            return math.inf  # a gate that cannot be decoded may select the pod
        # Every gate that selected the pod still exists, so it was changed on purpose not to select it.
        if held.claimed_by and all(self._gates.gate(key) is not None for key in held.claimed_by):
            return 0.0
        since = held.first_seen if held.unclaimed_since is None else held.unclaimed_since
        return since + LATE_GATE_SECONDS - self._monotonic()

    def _waits(self, held: HeldPod) -> bool | None:
        return self._namespaces.waits(held.pod.metadata.namespace, held.first_seen)
