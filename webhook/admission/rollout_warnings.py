"""Warn at `kubectl apply` of a rollout that cannot end, or that Kubernetes counts as failed while its pods are held."""

from collections.abc import Iterable

from webhook.admission.review import WARNING_LIMIT, shorten
from webhook.api.workload import Workload
from webhook.core.contracting import lacking, needs_old_schema
from webhook.core.gate import Mode
from webhook.core.pod_verdict import Decision, read_required
from webhook.core.verdict import Outcome, Reason

_ROLLING = {"Deployment", "StatefulSet", "DaemonSet"}
_LONGEST_TITLE, _LONGEST_GATE = 40, 24  # characters, so that a sentence is not longer than a warning may be


def rollout_warnings(workload: Workload, former: Workload | None, decisions: Iterable[Decision]) -> tuple[str, ...]:
    """Return further warnings about a workload whose pods would be held.

    Args:
        former: the workload before this update; None where it is new.
        decisions: each gate's decision about one of the workload's pods, made from its template.
    """
    warnings: list[str] = []
    for decision in decisions:
        if decision.verdict.outcome is not Outcome.HOLD or decision.gate.policy.mode is not Mode.ENFORCE:
            continue
        if _waits_for_itself(workload, former, decision):
            warnings.append(f"the rollout of {_title(workload)} would wait for itself: migrate with --phase expand")
        elif (deadline := workload.progress_deadline) and decision.gate.policy.max_hold.total_seconds() > deadline:
            gate, title = shorten(decision.gate.name, _LONGEST_GATE), _title(workload)
            text = f"maxHold of {gate} is above progressDeadlineSeconds ({deadline}) of {title}: it may fail first"
            warnings.append(text)
    return tuple(shorten(warning, WARNING_LIMIT) for warning in warnings)


def _waits_for_itself(workload: Workload, former: Workload | None, decision: Decision) -> bool:
    """Return whether the new pods bring a contract migration that the pods which they replace still need.

    The new pods are held until the old ones have ended, and a rolling update ends old pods when new ones are ready.
    """
    if decision.verdict.reason is not Reason.STILL_NEEDED or workload.kind not in _ROLLING:
        return False
    if former is None or former.pod is None:
        return False
    gate, ledger = decision.gate, decision.snapshot.ledger
    return needs_old_schema(gate, read_required(former.pod, gate), lacking(gate, decision.required, ledger), ledger)


def _title(workload: Workload) -> str:
    return shorten(workload.title, _LONGEST_TITLE)
