"""What the API server does with a new pod: its policy, the mutating webhook, then one of the validating webhooks."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from migrations.core.snapshot import LedgerSnapshot
from tests.json_patch import apply
from webhook.admission.handlers import Admission, Answer
from webhook.admission.review import Request
from webhook.api.objects import GATED_LABEL, SCHEDULING_GATE, Pod
from webhook.core.expectation import STATUS_IMAGES
from webhook.core.gate import Gate
from webhook.core.images import ImageRecord, UnknownImage

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)


@dataclass
class Ledgers:
    """Gates and ledgers in memory.

    Args:
        cached: the snapshot of each gate that `known` does not name.
        known: the snapshots by gate name.
        unread: what is known of each image that a gate asks; None for what the gate's status says.
    """

    gates: list[Gate]
    cached: LedgerSnapshot
    known: dict[str, LedgerSnapshot] = field(default_factory=dict)
    synced: bool = True
    unread: UnknownImage | None = None

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the gates that select these labels."""
        return [found for found in self.gates if found.namespace == namespace and found.selector.matches(labels)]

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is cached."""
        return self.known.get(gate.name, self.cached)

    def find(self, gate: Gate, pod: Pod, reference: str) -> ImageRecord | UnknownImage:
        """Return what is known of an image."""
        return self.unread or STATUS_IMAGES.find(gate, pod, reference)


@dataclass(frozen=True)
class Created:
    """The result of a creation: the pod as it would be stored, and the final answer.

    Args:
        final: the validating webhook's answer.
    """

    pod: dict[str, Any]
    final: Answer

    @property
    def gated(self) -> bool:
        """Whether the stored pod carries ledgergate's scheduling gate."""
        return any(gate["name"] == SCHEDULING_GATE for gate in self.pod["spec"].get("schedulingGates") or ())


def create(
    view: Ledgers,
    pod: dict[str, Any],
    *,
    policy: bool = True,
    mutating: bool = True,
    waits: bool = False,
    namespace: str = "ns",
) -> Created:
    """Create a pod.

    Args:
        policy: the API server has the in-process hold (Kubernetes 1.36 and newer).
        mutating: the mutating webhook answers; its failurePolicy is Ignore.
        waits: the namespace has label `ledgergate.dev/undeclared: wait`.
    """
    admission = Admission(view, view, lambda: NOW, view)
    stored = _held(pod) if policy and not pod["spec"].get("nodeName") else copy.deepcopy(pod)
    if mutating:
        stored = apply(stored, admission.mutate(_request(stored, namespace), waits=waits).patch)
    return Created(stored, admission.validate(_request(stored, namespace)))


def _held(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the pod as the policy of manifests/chart/files/base/policy.yaml changes it."""
    held = copy.deepcopy(pod)
    held["metadata"].setdefault("labels", {})[GATED_LABEL] = "true"
    gates = held["spec"].setdefault("schedulingGates", [])
    if {"name": SCHEDULING_GATE} not in gates:
        gates.append({"name": SCHEDULING_GATE})
    return held


def _request(pod: dict[str, Any], namespace: str) -> Request[Pod]:
    sent = msgspec.json.decode(msgspec.json.encode(pod), type=Pod)
    return Request(uid="u", operation="CREATE", namespace=namespace, object=sent)
