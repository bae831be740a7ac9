"""Pods of one application, its gates and ledger, and the requests that tests send to admission."""

from typing import Any

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from tests.admission_chain import NOW, Ledgers
from webhook.admission.handlers import Admission
from webhook.admission.review import Request
from webhook.api.objects import Metadata, Pod, PodSpec, SchedulingGate
from webhook.core.gate import Gate, Policy
from webhook.core.selector import Selector

A, B, C = "20260101000000_a", "20260102000000_b", "20260103000000_c"


def ledger(*names: str) -> LedgerSnapshot:
    """Return the snapshot of a ledger in which these revisions are applied."""
    return LedgerSnapshot(Ledger.of(Record(name, State.APPLIED) for name in names), NOW)


BEHIND, THERE = ledger(A), ledger(A, B)
"""A ledger that is behind for a pod of the application, which expects B; one that is not."""


def gate(name: str = "app", **policy: Any) -> Gate:
    """Return a gate that selects the application's pods."""
    return Gate(
        "ns", name, Selector((("guarded", "Exists", frozenset()),)), "pg", "ledgergate", policy=Policy(**policy)
    )


def pod(*gates: str, revision: str | None = B, guarded: bool = True, **spec: Any) -> Pod:
    """Return a pod of the application with these scheduling gates; a LedgerGate selects it only if it is `guarded`."""
    scheduling_gates = [SchedulingGate(name=name) for name in gates]
    annotations = None if revision is None else {"ledgergate.dev/revision": revision}
    metadata = Metadata(
        name="web-1", namespace="ns", labels={"guarded": ""} if guarded else None, annotations=annotations
    )
    return Pod(metadata=metadata, spec=PodSpec(scheduling_gates=scheduling_gates, **spec))


def create(found: Pod) -> Request[Pod]:
    """Return a request to create a pod."""
    return Request(uid="u", operation="CREATE", namespace="ns", object=found)


def update(old: Pod, new: Pod) -> Request[Pod]:
    """Return a request to update a pod."""
    return Request(uid="u", operation="UPDATE", namespace="ns", object=new, old_object=old)


def admission(view: Ledgers) -> Admission:
    """Return admission over these gates and ledgers, at one instant."""
    return Admission(view, view, lambda: NOW)
