"""Laws of admission, whatever the pod, the gates and their ledgers, and whichever webhook answers."""

from dataclasses import replace
from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from migrations.core.ledger import Ledger, Record, State
from migrations.core.revision import declare
from migrations.core.snapshot import Fault, LedgerSnapshot
from tests.admission_chain import NOW, Ledgers, create
from tests.policies import policies
from webhook.admission.handlers import Admission
from webhook.admission.review import Request
from webhook.api.objects import Pod
from webhook.api.workload import Workload
from webhook.core.gate import Action, Gate, Mode, Policy
from webhook.core.pod_verdict import decide_pod
from webhook.core.selector import Selector
from webhook.core.verdict import Reason

NAMES = [f"2026010{day}000000_m{day}" for day in range(1, 5)]
GATES = ["app", "other", "third"]
OTHER = {"name": "example.com/quota"}

unhurried = settings(deadline=None)  # a machine that is busy with something else is no defect

revisions = st.sampled_from(NAMES) | st.sets(st.sampled_from(NAMES), min_size=1).map(lambda s: str(declare(sorted(s))))


@st.composite
def snapshots(draw: st.DrawFn) -> LedgerSnapshot:
    """Some of the names, in some state, perhaps a contract migration, perhaps not to be read now."""
    records = [
        Record(
            name,
            draw(st.sampled_from([State.APPLIED, State.APPLIED, State.FAILED])),
            compatible_from=draw(st.none() | st.just(name)),
        )
        for name in sorted(draw(st.sets(st.sampled_from(NAMES))))
    ]
    known = draw(st.booleans())
    return LedgerSnapshot(
        Ledger.of(records) if known else None, NOW if known else None, draw(st.none() | st.sampled_from(Fault))
    )


ANY_MODE = st.sampled_from(Mode)


@st.composite
def views(draw: st.DrawFn, modes: st.SearchStrategy[Mode] = ANY_MODE) -> Ledgers:
    """Up to three gates, some of which select the pod, each with a ledger."""
    gates = []
    for name in draw(st.permutations(draw(st.lists(st.sampled_from(GATES), unique=True)))):
        terms = draw(st.sampled_from([(), (("app", "In", frozenset({"x"})),), (("app", "In", frozenset({"y"})),)]))
        policy = replace(draw(policies), mode=draw(modes))
        gates.append(Gate("ns", name, Selector(terms), "pg", "ledgergate", policy=policy))
    known = {gate.name: draw(snapshots()) for gate in gates}
    return Ledgers(gates, LedgerSnapshot(fault=Fault.UNREAD), known=known)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """A pod: what it declares, what gates it comes with, whether it has its node."""
    annotations = draw(
        st.dictionaries(
            st.sampled_from(["ledgergate.dev/revision", "revision.ledgergate.dev/app"]), revisions | st.just("a+b")
        )
    )
    if undeclared := draw(st.none() | st.sampled_from(["start", "wait"])):
        annotations["ledgergate.dev/undeclared"] = undeclared
    migrates = draw(st.none() | st.sampled_from(GATES))
    if migrates:
        annotations["ledgergate.dev/migrates"] = migrates
    spec: dict[str, Any] = {"containers": []}
    if draw(st.booleans()):
        spec["nodeName"] = "node-0"
    else:
        spec["schedulingGates"] = draw(st.sampled_from([[], [OTHER]]))
    return {"metadata": {"labels": {"app": "x"}, "annotations": annotations}, "spec": spec}


@unhurried
@given(views(), pods(), st.booleans(), st.booleans())
def test_no_pod_with_a_bad_verdict_is_stored_without_the_gate(
    view: Ledgers, pod: dict[str, Any], in_process: bool, mutating: bool
) -> None:
    """With or without the policy, mutation or not: only a good verdict lets a pod in without the gate."""
    created = create(view, pod, policy=in_process, mutating=mutating)
    if not created.final.allowed or created.gated:
        return
    subject = msgspec.json.decode(msgspec.json.encode(created.pod), type=Pod)
    gates = view.selecting("ns", subject.labels)
    verdict = decide_pod(subject, [(gate, view.snapshot(gate)) for gate in gates], NOW).final
    assert verdict.outcome.good or verdict.reason is Reason.UNSELECTED


@unhurried
@given(views(), pods(), st.booleans(), st.booleans())
def test_where_the_namespace_waits_no_pod_starts_before_its_gate(
    view: Ledgers, pod: dict[str, Any], in_process: bool, mutating: bool
) -> None:
    """A pod that no gate selects is stored held, unless it migrates, says that it needs no ledger, or has a node."""
    selected = any(gate.selector.matches({"app": "x"}) for gate in view.gates)
    created = create(view, pod, policy=in_process, mutating=mutating, waits=True)
    if selected:
        assert created == create(view, pod, policy=in_process, mutating=mutating)
        return
    assert created.final.allowed
    annotations = pod["metadata"]["annotations"]
    exempt = "nodeName" in pod["spec"] or not (in_process or mutating)
    declares = any("revision" in name for name in annotations)
    starts = "ledgergate.dev/migrates" in annotations or annotations.get("ledgergate.dev/undeclared") == "start"
    if not exempt and (declares or not starts):
        assert created.gated


@unhurried
@given(views(modes=st.just(Mode.AUDIT)), pods(), st.booleans())
def test_audit_never_changes_admission(view: Ledgers, pod: dict[str, Any], in_process: bool) -> None:
    """Where every gate audits, a pod is stored as if no gate were there."""
    gates, view.gates = view.gates, [*view.gates]
    created = create(view, pod, policy=in_process)
    without = create(replace(view, gates=[]), pod, policy=in_process)
    selected = any(gate.selector.matches({"app": "x"}) for gate in gates)
    assert created.final.allowed
    if selected:
        assert created.pod == pod
    else:
        assert created.pod == without.pod


@unhurried
@given(views(), pods())
def test_a_namespace_in_audit_never_refuses(view: Ledgers, pod: dict[str, Any]) -> None:
    """Whatever the gates say, the audit's answers allow and change nothing: of pods and of workloads."""
    admission = Admission(view, view, lambda: NOW)
    subject = msgspec.json.decode(msgspec.json.encode(pod), type=Pod)
    answer = admission.audit(Request(uid="u", operation="CREATE", namespace="ns", object=subject))
    assert (answer.allowed, answer.patch) == (True, [])
    whole = {"kind": "StatefulSet", "metadata": {"name": "x"}, "spec": {"template": pod}}
    workload = msgspec.convert(whole, Workload)
    request = Request(uid="u", operation="UPDATE", namespace="ns", object=workload)
    assert admission.preview(request, audit=True).allowed


@unhurried
@given(views(), pods(), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_gates_does_not_matter(
    view: Ledgers, pod: dict[str, Any], in_process: bool, random: Random
) -> None:
    """The same gates in another order: the same pod, the same verdict, the same messages."""
    other = replace(view, gates=random.sample(view.gates, len(view.gates)))
    one, two = create(view, pod, policy=in_process), create(other, pod, policy=in_process)
    assert one == two


@unhurried
@given(pods(), policies, st.sampled_from(NAMES), st.booleans())
def test_an_old_image_is_never_held_for_being_old(
    pod: dict[str, Any], policy: Policy, name: str, in_process: bool
) -> None:
    """A pod whose revision the ledger holds, complete, starts, unless `onAhead` says otherwise."""
    pod["metadata"]["annotations"] = {
        "ledgergate.dev/revision": str(declare([known for known in NAMES if known <= name]))
    }
    gate = Gate("ns", "app", Selector(), "pg", "ledgergate", policy=replace(policy, on_ahead=Action.ALLOW))
    view = Ledgers([gate], LedgerSnapshot(Ledger.of(Record(known, State.APPLIED) for known in NAMES), NOW))
    created = create(view, pod, policy=in_process)
    assert created.final.allowed
    assert not created.gated
