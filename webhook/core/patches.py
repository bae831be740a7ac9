"""The JSON patches that put our scheduling gate, label and readiness gates on a pod, and take the gate off."""

from collections.abc import Sequence
from typing import Any

from webhook.api.objects import API_GROUP, GATED_LABEL, SCHEDULING_GATE, Pod

Patch = list[dict[str, Any]]
"""A JSON patch (RFC 6902)."""


def condition_type(gate: str) -> str:
    """Return the readiness gate, and so the pod condition, that stands for a LedgerGate."""
    return f"{API_GROUP}/{gate}"


def creation_patch(pod: Pod, *, hold: bool, conditions: Sequence[str] = ()) -> Patch:
    """Make a pod that is being created what it should be; empty where it is so already. Nothing else is touched.

    Args:
        hold: whether it should carry our scheduling gate. The API refuses one on a pod that has its node (KEP-3521), so
            that is left without.
        conditions: the readiness gates that it should have beside those that it has. They can be set at creation only
            (KEP-580).
    """
    hold = hold and not pod.spec.node_name
    patch = _scheduling_gate(pod) if hold else release_patch(pod)
    present = {gate.condition_type for gate in pod.spec.readiness_gates or ()}
    missing = [{"conditionType": wanted} for wanted in conditions if wanted not in present]
    if missing and not pod.spec.readiness_gates:
        patch.append({"op": "add", "path": "/spec/readinessGates", "value": missing})
    else:
        patch.extend({"op": "add", "path": "/spec/readinessGates/-", "value": gate} for gate in missing)
    # By this label the controller finds the pods whose conditions it keeps.
    return patch + _label(pod, wanted=hold or bool(conditions))


def _scheduling_gate(pod: Pod) -> Patch:
    if pod.gate_index is not None:
        return []
    ours = {"name": SCHEDULING_GATE}
    if pod.spec.scheduling_gates:
        return [{"op": "add", "path": "/spec/schedulingGates/-", "value": ours}]
    return [{"op": "add", "path": "/spec/schedulingGates", "value": [ours]}]


def _label(pod: Pod, *, wanted: bool) -> Patch:
    if not wanted:
        return [{"op": "remove", "path": _LABEL_PATH}] if GATED_LABEL in pod.labels else []
    if pod.labels.get(GATED_LABEL) == "true":
        return []
    if pod.metadata.labels is None:
        return [{"op": "add", "path": "/metadata/labels", "value": {GATED_LABEL: "true"}}]
    return [{"op": "add", "path": _LABEL_PATH, "value": "true"}]


def release_patch(pod: Pod) -> Patch:
    """Take our gate, and nothing else, off a pod.

    The ``test`` makes the patch fail, instead of taking off another tool's gate, where the list has changed since.
    """
    index = pod.gate_index
    if index is None:
        return []
    path = f"/spec/schedulingGates/{index}"
    return [{"op": "test", "path": f"{path}/name", "value": SCHEDULING_GATE}, {"op": "remove", "path": path}]


_LABEL_PATH = f"/metadata/labels/{GATED_LABEL.replace('~', '~0').replace('/', '~1')}"
