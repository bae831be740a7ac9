"""JSON patches that add ledgergate's scheduling gate, label and readiness gates to a pod, and remove the gate."""

from collections.abc import Mapping, Sequence
from typing import Any

from webhook.api.objects import API_GROUP, GATED_LABEL, SCHEDULING_GATE, Pod

Patch = list[dict[str, Any]]
"""A JSON patch (RFC 6902)."""

_LABEL_PATH = f"/metadata/labels/{GATED_LABEL.replace('~', '~0').replace('/', '~1')}"


def condition_type(gate: str) -> str:
    """Return the type of the readiness gate, and of the pod condition, of a LedgerGate."""
    return f"{API_GROUP}/{gate}"


def creation_patch(pod: Pod, *, hold: bool, conditions: Sequence[str] = ()) -> Patch:
    """Return the patch that sets a new pod's scheduling gate, readiness gates and label; empty where nothing changes.

    Args:
        hold: whether the pod should have our scheduling gate. A pod with a node gets none: the API server refuses it
            (KEP-3521).
        conditions: the readiness gates to add, where they are missing. They can be set at creation only (KEP-580).
    """
    hold = hold and not pod.spec.node_name
    patch = _hold_patch(pod) if hold else release_patch(pod)
    present = {gate.condition_type for gate in pod.spec.readiness_gates or ()}
    missing = [{"conditionType": condition} for condition in conditions if condition not in present]
    if missing and not pod.spec.readiness_gates:
        patch.append({"op": "add", "path": "/spec/readinessGates", "value": missing})
    else:
        patch.extend({"op": "add", "path": "/spec/readinessGates/-", "value": gate} for gate in missing)
    # The controller finds the pods whose conditions it keeps by this label. A template may declare our readiness gates
    # itself; without the label their conditions would never be set.
    declared = any(condition.startswith(f"{API_GROUP}/") for condition in present)
    return patch + _label_patch(pod, gated=hold or bool(conditions) or declared)


def _hold_patch(pod: Pod) -> Patch:
    if pod.gate_index is not None:
        return []
    gate = {"name": SCHEDULING_GATE}
    if pod.spec.scheduling_gates:
        return [{"op": "add", "path": "/spec/schedulingGates/-", "value": gate}]
    return [{"op": "add", "path": "/spec/schedulingGates", "value": [gate]}]


def _label_patch(pod: Pod, *, gated: bool) -> Patch:
    if not gated:
        return [{"op": "remove", "path": _LABEL_PATH}] if GATED_LABEL in pod.labels else []
    if pod.labels.get(GATED_LABEL) == "true":
        return []
    if pod.metadata.labels is None:
        return [{"op": "add", "path": "/metadata/labels", "value": {GATED_LABEL: "true"}}]
    return [{"op": "add", "path": _LABEL_PATH, "value": "true"}]


def release_patch(pod: Pod) -> Patch:
    """Return the patch that removes our scheduling gate, and nothing else, from a pod; empty where it has none."""
    index = pod.gate_index
    if index is None:
        return []
    path = f"/spec/schedulingGates/{index}"
    # JSON patch removes by position. Where the list has changed since the pod was read, the test makes the patch fail
    # instead of removing another tool's gate.
    return [{"op": "test", "path": f"{path}/name", "value": SCHEDULING_GATE}, {"op": "remove", "path": path}]


def pin_patch(pod: Pod, images: Mapping[str, str]) -> Patch:
    """Return the patch that replaces tags with digests; empty where no image has one.

    Args:
        images: the image with its digest, by the image as it stands in the pod. ``spec.containers[].image`` is one of
            the few fields of a pod that may change
            (https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement).
    """
    patch: Patch = []
    for part, containers in (("containers", pod.spec.containers), ("initContainers", pod.spec.init_containers)):
        for index, container in enumerate(containers or ()):
            if container.image in images:
                path = f"/spec/{part}/{index}/image"
                patch += [
                    {"op": "test", "path": path, "value": container.image},
                    {"op": "replace", "path": path, "value": images[container.image]},
                ]
    return patch
