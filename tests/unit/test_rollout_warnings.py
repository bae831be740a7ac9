"""What `kubectl apply` says of a rollout that cannot end, or that counts as failed while its pods are held."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from webhook.admission.review import WARNING_LIMIT
from webhook.admission.rollout_warnings import rollout_warnings
from webhook.api.workload import Workload
from webhook.core.gate import Gate, Mode, Policy
from webhook.core.pod_verdict import decide_pod
from webhook.core.selector import Selector

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
A, B, C = "20260101_a", "20260102_b", "20260103_c"
LEDGER = LedgerSnapshot(Ledger.of([Record(A, State.APPLIED), Record(B, State.APPLIED)]), NOW)


def workload(revision: str, kind: str = "Deployment", name: str = "gateway", **spec: Any) -> Workload:
    """A workload whose init container brings the contract migration C."""
    declared = {"revision": revision, "migrates": "app", "contract": f"{C}:{B}"}
    annotations = {f"ledgergate.dev/{name}": text for name, text in declared.items()}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": []}}
    return msgspec.convert({"kind": kind, "metadata": {"name": name}, "spec": {"template": template, **spec}}, Workload)


def said(subject: Workload, former: Workload | None = None, **policy: Any) -> tuple[str, ...]:
    gate = Gate("ns", "app", Selector(), "pg", "ledgergate", policy=Policy(**policy))
    assert subject.pod is not None
    return rollout_warnings(subject, former, decide_pod(subject.pod, [(gate, LEDGER)], NOW).by_gate)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_rollout_that_waits_for_itself_is_warned_of(kind: str) -> None:
    """Its own init container drops what the pods that it replaces still need."""
    (warning,) = said(workload(B, kind), workload(A, kind))
    assert warning == f"the rollout of {kind.lower()}/gateway would wait for itself: migrate with --phase expand"


def test_a_predecessor_that_can_run_with_it_is_no_reason() -> None:
    """Nor is a workload that is new, or a Job, which replaces no pods."""
    assert said(workload(B), workload(B)) == ()
    assert said(workload(B)) == ()
    assert said(workload(B, "Job"), workload(A, "Job")) == ()


def test_a_hold_that_outlasts_the_deadline_is_warned_of() -> None:
    """`kubectl rollout status` fails after progressDeadlineSeconds, before ledgergate says that pods wait too long."""
    (warning,) = said(workload(B, progressDeadlineSeconds=300))
    assert warning == ("maxHold of app is above progressDeadlineSeconds (300) of deployment/gateway: it may fail first")
    assert said(workload(B)) == ()
    assert len(said(workload(B), max_hold=timedelta(minutes=15))) == 1


def test_an_audit_warns_of_no_rollout() -> None:
    """Under Audit no pod is held, so no rollout waits."""
    assert said(workload(B), workload(A), mode=Mode.AUDIT) == ()


def test_a_warning_fits() -> None:
    """Every client shows 120 characters in full."""
    name = "x" * 200
    for former in (None, workload(A, name=name)):
        (warning,) = said(workload(B, name=name), former, max_hold=timedelta(hours=1))
        assert len(warning) <= WARNING_LIMIT
