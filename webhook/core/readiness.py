"""Whether a pod is ready as far as one ledger goes: what its condition ``ledgergate.dev/<gate>`` says. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-gate
"""

from dataclasses import dataclass
from datetime import datetime

from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.api.objects import API_GROUP, Condition, Pod
from webhook.core.gate import Gate, Readiness
from webhook.core.requirement import requirement
from webhook.core.verdict import Reason, judge

_PREFIX = f"{API_GROUP}/"
_FINISHED = {"Succeeded", "Failed"}


@dataclass(frozen=True, slots=True)
class ReadinessVerdict:
    """What a condition should say."""

    status: bool
    reason: str
    message: str


def requested_gates(pod: Pod) -> tuple[str, ...]:
    """Return the gates whose readiness gate a pod carries, if anybody still waits for its readiness."""
    if pod.held or pod.metadata.deletion_timestamp is not None or pod.status.phase in _FINISHED:
        return ()
    kinds = (gate.condition_type for gate in pod.spec.readiness_gates or ())
    return tuple(kind.removeprefix(_PREFIX) for kind in kinds if kind.startswith(_PREFIX))


def unguarded_verdict(name: str) -> ReadinessVerdict:
    """Say that a gate has no word in a pod's readiness: it is gone, does not select it, or is off. For good."""
    return ReadinessVerdict(
        status=True, reason="Unguarded", message=f"LedgerGate {name} asks nothing of the pod's readiness"
    )


def assess(
    before: Condition | None, pod: Pod, gate: Gate, snapshot: LedgerSnapshot, now: datetime
) -> ReadinessVerdict | None:
    """Decide what a pod's condition should say; None where it stays as it is.

    Once True, it stays so under ``Latch``; under ``Live`` it is taken back where the ledger is seen to have lost the
    revision or to shut it out, never because it cannot be read: an outage of the database must not empty a Service.

    Args:
        before: the condition as it is, None where there is none.
        gate: with readiness Latch or Live, and selecting the pod.
        now: aware.
    """
    if snapshot.fault is Fault.UNREAD:
        return None
    was_ready = before is not None and before.status == "True"
    verdict = judge(pod, [(gate, snapshot)], now)
    if verdict.outcome.good:
        return None if was_ready else ReadinessVerdict(status=True, reason=verdict.reason, message=verdict.message)
    if was_ready and not (gate.policy.readiness is Readiness.LIVE and _lost(pod, gate, snapshot, verdict.reason)):
        return None
    if before is not None and not was_ready and before.reason == verdict.reason:
        return None  # every migration of a long run changes the message; a thousand pods need not hear of each
    return ReadinessVerdict(status=False, reason=verdict.reason, message=verdict.message)


def _lost(pod: Pod, gate: Gate, snapshot: LedgerSnapshot, reason: Reason) -> bool:
    """Tell whether a ledger that can be read now is none for a pod that it was one for."""
    if snapshot.fault is not None or snapshot.ledger is None:
        return False
    if reason is Reason.DIRTY:  # of another migration, unless the revision is gone too
        expected = requirement(pod, gate.name, gate.expect_env).expected
        return expected is not None and not snapshot.ledger.contains(expected.name)
    return reason in {Reason.BEHIND, Reason.INCOMPLETE, Reason.INCOMPATIBLE}
