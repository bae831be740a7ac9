"""Decide what a pod's condition ``ledgergate.dev/<gate>`` says: whether the ledger lets the pod be ready. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-gate
"""

import re
from dataclasses import dataclass
from datetime import datetime

from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.api.objects import API_GROUP, Condition, Pod
from webhook.core.expectation import STATUS_IMAGES, ImageView
from webhook.core.gate import Gate, Readiness
from webhook.core.living import is_finished
from webhook.core.pod_verdict import read_required
from webhook.core.requirement import Requirement
from webhook.core.verdict import Reason, decide

_PREFIX = f"{API_GROUP}/"
_FATE = re.compile(r"\b(the pod|it) is (?:held|denied)\b")
"""What a verdict says of a new pod; one that runs already is neither held nor denied."""


@dataclass(frozen=True, slots=True)
class ReadinessVerdict:
    """Status, reason and message of a pod's condition."""

    status: bool
    reason: str
    message: str


def requested_gates(pod: Pod) -> tuple[str, ...]:
    """Return the names of the LedgerGates among a pod's readiness gates.

    There are none for a pod that is held, is being deleted or has finished: its readiness does not matter.
    """
    if pod.held or pod.metadata.deletion_timestamp is not None or is_finished(pod):
        return ()
    types = (gate.condition_type for gate in pod.spec.readiness_gates or ())
    return tuple(name.removeprefix(_PREFIX) for name in types if name.startswith(_PREFIX))


def unguarded_verdict(gate: str) -> ReadinessVerdict:
    """Return the verdict for a gate that does not concern the pod: it is gone, does not select the pod, or is ``Off``.

    A readiness gate stays on its pod, so the condition has to be True for the pod ever to become ready.
    """
    return ReadinessVerdict(
        status=True, reason="Unguarded", message=f"LedgerGate {gate} asks nothing of the pod's readiness"
    )


def assess(
    before: Condition | None,
    pod: Pod,
    gate: Gate,
    snapshot: LedgerSnapshot,
    now: datetime,
    images: ImageView = STATUS_IMAGES,
) -> ReadinessVerdict | None:
    """Decide what a pod's condition should say; None where it stays as it is.

    Once True, it stays True under ``Latch``. Under ``Live`` it becomes False again where the ledger is seen to have
    lost the revision or to exclude it, but never because the ledger cannot be read: an outage of the database must not
    take every pod out of its Service.

    Args:
        before: the condition as it is; None where there is none.
        gate: a gate that selects the pod, with readiness Latch or Live.
        now: aware.
        images: what is known of the pod's images.
    """
    if snapshot.fault is Fault.UNREAD:
        return None
    was_ready = before is not None and before.status == "True"
    required = read_required(pod, gate, images)
    verdict = decide(gate, required, snapshot, now)
    if verdict.outcome.good:
        return None if was_ready else ReadinessVerdict(status=True, reason=verdict.reason, message=verdict.message)
    if was_ready and not (gate.policy.readiness is Readiness.LIVE and _is_lost(required, snapshot, verdict.reason)):
        return None
    if before is not None and not was_ready and before.reason == verdict.reason:
        # The message changes with every migration of a long run: to follow it would write to each waiting pod.
        return None
    return ReadinessVerdict(status=False, reason=verdict.reason, message=_FATE.sub(r"\1 is not ready", verdict.message))


def _is_lost(required: Requirement, snapshot: LedgerSnapshot, reason: Reason) -> bool:
    """Return whether the ledger, as read now, no longer satisfies a pod that it once satisfied."""
    if snapshot.fault is not None or snapshot.ledger is None:
        return False
    if reason is Reason.DIRTY:  # another migration may be dirty while the pod's own revision is still applied
        return required.expected is not None and not snapshot.ledger.contains(required.expected.name)
    return reason in {Reason.BEHIND, Reason.INCOMPLETE, Reason.INCOMPATIBLE}
