"""The warnings about a workload's pods when it is applied, and its refusal where a gate asks for one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.admission.forecast import REFUSAL_LIMIT, Forecast, preview
from webhook.admission.review import WARNING_LIMIT
from webhook.api.objects import Pod
from webhook.api.workload import Workload
from webhook.core.gate import Action, Gate, Mode, Policy
from webhook.core.pod_verdict import decide_pod
from webhook.core.selector import Selector
from webhook.core.verdict import Outcome, Reason

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
A, B, C = "20260101000000_a", "20260102000000_b", "20260103000000_c"


def ledger(*records: Record | str) -> LedgerSnapshot:
    rows = [Record(each, State.APPLIED) if isinstance(each, str) else each for each in records]
    return LedgerSnapshot(Ledger.of(rows), NOW)


def gate(name: str = "cliscale", **policy: Any) -> Gate:
    return Gate("ns", name, Selector(), "pg", "ledgergate", policy=Policy(**policy))


def workload(kind: str = "Deployment", name: str = "gateway", revision: str | None = B, **spec: Any) -> Workload:
    annotations = {} if revision is None else {"ledgergate.dev/revision": revision}
    template: dict[str, Any] = {"metadata": {"annotations": annotations}, "spec": {"containers": []}}
    body = {"jobTemplate": {"spec": {"template": template}}} if kind == "CronJob" else {"template": template}
    whole = {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name}, "spec": body | spec}
    return msgspec.convert(whole, Workload)


def forecast_of(
    subject: Workload, snapshot: LedgerSnapshot, found: Gate | None = None, *, updated: bool = False
) -> Forecast:
    pod = subject.pod
    assert pod is not None
    decided = decide_pod(pod, [(found or gate(), snapshot)], NOW)
    (only,) = preview(subject, decided.by_gate, updated=updated)
    return only


def test_the_warning_of_pods_that_will_be_held_is_the_contracts() -> None:
    """The warning names the workload, the ledger, its head, and the revision that the image expects."""
    forecast = forecast_of(workload(), ledger(A))
    assert forecast.warnings == (
        f"pods of deployment/gateway will be held: ledger cliscale is at {A}, the image expects {B}",
    )
    assert forecast.refusal == ""
    assert forecast.decision.verdict.reason is Reason.BEHIND


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_every_kind_is_named_as_kubectl_does(kind: str) -> None:
    """Each kind's template is found where that kind has it."""
    (warning,) = forecast_of(workload(kind), ledger(A)).warnings
    assert warning.startswith(f"pods of {kind.lower()}/gateway will be held: ")


def test_a_generated_name_is_shown_as_far_as_it_is_known() -> None:
    """A Job of `generateName` has no name yet."""
    subject = msgspec.convert({"kind": "Job", "metadata": {"generateName": "load-"}}, Workload)
    assert subject.title == "job/load-"
    assert subject.pod is None


def test_a_good_verdict_says_nothing() -> None:
    """A workload whose pods may all start has no warning."""
    assert forecast_of(workload(), ledger(A, B)).warnings == ()
    assert forecast_of(workload(), ledger(A, B, C)).warnings == ()


OUTCOMES: dict[str, tuple[Workload, LedgerSnapshot, dict[str, Any], str]] = {
    "behind": (workload(), ledger(), {}, "held: ledger cliscale is at its beginning, the image expects"),
    "denied": (workload(), ledger(A), {"on_behind": Action.DENY}, "will be denied: ledger cliscale is at"),
    "let go": (workload(), ledger(A), {"on_behind": Action.WARN}, "will start all the same: ledger cliscale is at"),
    "gap": (workload(revision=f"{B}+2.000000000000"), ledger(B), {}, "held: ledger cliscale lacks one that the image"),
    "dirty": (
        workload(),
        ledger(A, Record(B, State.FAILED)),
        {},
        f"held: migration {B} of ledger cliscale is unfinish",
    ),
    "incompatible": (
        workload(revision=A),
        ledger(A, Record(C, State.APPLIED, compatible_from=B)),
        {},
        f"denied: a contract migration in ledger cliscale shuts out images of {A}",
    ),
    "ahead": (workload(revision=A), ledger(A, B), {"on_ahead": Action.DENY}, f"at {B}, ahead of {A}"),
    "undeclared": (workload(revision=None), ledger(A), {}, "same: no annotation ledgergate.dev/revision for gate clis"),
    "invalid": (workload(revision="a+b"), ledger(A), {}, "denied: 'a+b' is no revision"),
    "unreachable": (
        workload(),
        LedgerSnapshot(fault=Fault.UNREACHABLE),
        {},
        "held: ledger cliscale cannot be read now",
    ),
    "bypassed": (
        workload(),
        ledger(A),
        {"bypass_until": NOW + timedelta(hours=1)},
        "will start all the same: gate cliscale is bypassed",
    ),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_reason_has_a_warning(name: str) -> None:
    """Each row of the table whose pods are not simply admitted has its warning."""
    subject, snapshot, policy, says = OUTCOMES[name]
    forecast = forecast_of(subject, snapshot, gate(**policy))
    assert says in forecast.warnings[0]
    assert len(forecast.warnings[0]) <= WARNING_LIMIT


@pytest.mark.parametrize(
    ("subject", "removes"),
    [
        (workload(strategy={"type": "Recreate"}), True),
        (workload(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}), False),
        (workload(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}), True),
        (workload(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}), True),
        (workload(replicas=3, strategy={"rollingUpdate": {"maxUnavailable": 3}}), True),
        (workload(replicas=3, strategy={"rollingUpdate": {"maxUnavailable": 2}}), False),
        (workload("StatefulSet", updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}), True),
        (workload("StatefulSet", updateStrategy={"type": "OnDelete"}), False),
        (workload("DaemonSet", updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}), True),
        (workload("DaemonSet", updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "10%"}}), False),
        (workload("DaemonSet", updateStrategy={"type": "OnDelete"}), False),
        (workload("ReplicaSet"), False),
        (workload("CronJob"), False),
    ],
)
def test_an_update_that_removes_pods_first_is_warned_of(subject: Workload, removes: bool) -> None:
    """An update that removes pods first, while their successors may not start, costs capacity; a creation does not."""
    assert subject.removes_first is removes
    updated = forecast_of(subject, ledger(A), updated=True)
    taken = [warning for warning in updated.warnings if "takes running pods" in warning]
    assert [f"of {subject.title} away, and their successors will be held" in each for each in taken] == [True] * removes
    assert len(forecast_of(subject, ledger(A)).warnings) == 1
    assert forecast_of(subject, ledger(A, B), updated=True).warnings == ()


def test_an_audit_never_says_will() -> None:
    """Under Audit the warning says what Enforce would do, in the conditional, and the workload is not refused."""
    audited = gate("app", mode=Mode.AUDIT, on_behind_workload=Action.DENY)
    forecast = forecast_of(workload(name="web", strategy={"type": "Recreate"}), ledger(A), audited, updated=True)
    assert forecast.warnings == (
        f"audit: pods of deployment/web would be held: ledger app is at {A}, the image expects {B}",
    )
    assert forecast.refusal == ""


def test_a_workload_is_refused_where_the_gate_says_so() -> None:
    """The message names workload, state, what to do, and the field that refuses."""
    refusing = gate(on_behind_workload=Action.DENY)
    assert forecast_of(workload(), ledger(A), refusing).refusal == (
        f"pods of deployment/gateway would be held: ledger cliscale is at {A}, the image expects {B}; apply it again "
        "when they may start (onBehindWorkload of LedgerGate cliscale is Deny)"
    )
    assert forecast_of(workload(), ledger(A, B), refusing).refusal == ""


@pytest.mark.parametrize("policy", [{"on_behind": Action.WARN}, {"bypass_until": NOW + timedelta(hours=1)}])
def test_what_may_start_is_never_refused(policy: dict[str, Any]) -> None:
    """A workload whose pods start anyway, by policy or by a bypass, is not refused."""
    assert forecast_of(workload(), ledger(A), gate(on_behind_workload=Action.DENY, **policy)).refusal == ""


def test_an_outage_of_the_database_refuses_no_workload() -> None:
    """An unreadable ledger does not prove that the pods cannot start: they are held, and the workload is applied."""
    forecast = forecast_of(workload(), LedgerSnapshot(fault=Fault.UNREACHABLE), gate(on_behind_workload=Action.DENY))
    assert forecast.decision.verdict.outcome is Outcome.HOLD
    assert forecast.refusal == ""


@settings(deadline=None)
@given(
    name=st.text("abc-xyz{}", min_size=1, max_size=253),
    gate_name=st.text("gate-{}", min_size=1, max_size=63),
    revision=st.text("0123456789_abc", min_size=1, max_size=200).map(lambda text: f"20260102000000_{text}"),
    head=st.text("0123456789_{}\n", min_size=1, max_size=200).map(lambda text: f"20260101000000_{text}"),
)
def test_a_warning_fits_whatever_the_names(name: str, gate_name: str, revision: str, head: str) -> None:
    """At most 120 characters; a revision's time, by which it is known, is never cut off before its name is."""
    subject = workload("StatefulSet", name, revision)
    forecast = forecast_of(subject, ledger(head), gate(gate_name, on_behind_workload=Action.DENY), updated=True)
    assert len(forecast.warnings) == 2
    assert all(len(warning) <= WARNING_LIMIT and warning.isprintable() for warning in forecast.warnings)
    assert len(forecast.refusal) <= REFUSAL_LIMIT
    assert forecast.refusal.isprintable()


def test_a_pod_template_is_judged_as_its_pods_are() -> None:
    """An annotation for one gate, a migrator: all that a pod may declare, its template may."""
    template = {"metadata": {"annotations": {"ledgergate.dev/migrates": "cliscale", "ledgergate.dev/revision": C}}}
    subject = msgspec.convert({"kind": "Job", "metadata": {"name": "x"}, "spec": {"template": template}}, Workload)
    assert isinstance(subject.pod, Pod)
    assert forecast_of(subject, ledger(A)).decision.verdict.reason is Reason.SELF_MIGRATING
