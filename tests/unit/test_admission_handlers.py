"""What a verdict means for a pod that is created or loses its gate."""

from dataclasses import replace
from datetime import timedelta

import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.revision import declare
from migrations.core.snapshot import Fault, LedgerSnapshot
from tests.admission_chain import NOW, Ledgers
from tests.admission_subjects import BEHIND, THERE, A, B, C, admission, create, gate, ledger, pod, update
from webhook.admission.handlers import Answer, Result
from webhook.api.objects import GATED_LABEL, SCHEDULING_GATE, Metadata, Pod
from webhook.core.gate import Action, Mode, Readiness
from webhook.core.verdict import Reason

HELD = pod(SCHEDULING_GATE)


def mutate(view: Ledgers, found: Pod) -> Answer:
    return admission(view).mutate(create(found))


def validate(view: Ledgers, found: Pod) -> Answer:
    return admission(view).validate(create(found))


def test_mutation_holds_what_may_not_run() -> None:
    """A bad verdict adds the scheduling gate and the label, and the pod is created."""
    answer = mutate(Ledgers([gate()], BEHIND), pod())
    assert answer.allowed
    assert answer.result == "held"
    assert [step["path"] for step in answer.patch] == [
        "/spec/schedulingGates",
        "/metadata/labels/ledgergate.dev~1gated",
    ]


def test_mutation_removes_the_gate_of_a_pod_that_may_run() -> None:
    """A good verdict removes the gate that the API server's own policy added, in the same request."""
    answer = mutate(Ledgers([gate()], THERE), pod("other", SCHEDULING_GATE))
    assert answer.result == "admitted"
    assert [step["op"] for step in answer.patch] == ["test", "remove"]
    assert answer.patch[1]["path"] == "/spec/schedulingGates/1"


def test_mutation_changes_nothing_that_is_right_already() -> None:
    """Called twice (reinvocation), the second answer changes nothing."""
    assert mutate(Ledgers([gate()], THERE), pod()).patch == []
    held = replace_labels(HELD, {"guarded": "", GATED_LABEL: "true"})
    assert mutate(Ledgers([gate()], BEHIND), held).patch == []


def replace_labels(found: Pod, labels: dict[str, str]) -> Pod:
    metadata = Metadata(name=found.metadata.name, namespace="ns", labels=labels, annotations=found.metadata.annotations)
    return Pod(metadata=metadata, spec=found.spec)


def test_mutation_removes_the_gate_of_a_pod_that_no_gate_selects() -> None:
    """In an opted-in namespace the policy gates every pod; one that no LedgerGate selects starts at once."""
    answer = mutate(Ledgers([gate()], BEHIND), pod(SCHEDULING_GATE, revision=None, guarded=False))
    assert answer.verdict.reason is Reason.UNSELECTED
    assert [step["op"] for step in answer.patch] == ["test", "remove"]


def test_a_pod_whose_gate_may_be_on_its_way_is_held_and_never_refused() -> None:
    """Helm creates custom resources last: a pod that declares a revision waits for its gate, and no ledger is read."""
    view = Ledgers([gate()], BEHIND)
    answer = mutate(view, pod(guarded=False))
    assert (answer.verdict.reason, answer.result) == (Reason.UNSELECTED, "held")
    assert answer.patch
    for found in (pod(guarded=False), pod(SCHEDULING_GATE, guarded=False), pod(guarded=False, node_name="node-0")):
        assert validate(view, found).allowed


def test_a_pod_that_declares_nothing_waits_where_the_namespace_says_so() -> None:
    """In a namespace with label `ledgergate.dev/undeclared: wait` it is held, and validation admits it, held."""
    view, found = Ledgers([gate()], BEHIND), pod(revision=None, guarded=False)
    answer = admission(view).mutate(create(found), waits=True)
    assert (answer.verdict.reason, answer.result) == (Reason.UNSELECTED, "held")
    assert answer.patch
    assert validate(view, pod(SCHEDULING_GATE, revision=None, guarded=False)).allowed
    bound = admission(view).mutate(create(pod(revision=None, guarded=False, node_name="node-0")), waits=True)
    assert (bound.result, bound.patch) == (Result.PASSED, [])


def test_mutation_holds_what_validation_will_deny() -> None:
    """If the validating call fails (its failurePolicy lets a pod with our gate pass), a denied pod is at least held."""
    answer = mutate(Ledgers([gate(on_behind=Action.DENY)], BEHIND), pod())
    assert answer.allowed
    assert answer.patch


def test_mutation_puts_no_gate_on_a_bound_pod() -> None:
    """The API refuses a scheduling gate on a pod with a node name, with a message that does not say why."""
    answer = mutate(Ledgers([gate()], BEHIND), pod(node_name="node-0"))
    assert answer.allowed
    assert answer.patch == []


def test_validation_admits_what_is_held() -> None:
    """A pod with the gate waits; it is not refused, and its ledger is not read again."""
    view = Ledgers([gate()], BEHIND)
    answer = validate(view, HELD)
    assert answer.allowed


def test_validation_refuses_what_should_be_held_and_is_not() -> None:
    """A pod without the gate and with a bad verdict is refused, with the reason."""
    answer = validate(Ledgers([gate()], BEHIND), pod("other"))
    assert not answer.allowed
    assert answer.result == "denied"
    assert answer.message.startswith(f"ledger app is at {A}, the pod expects {B}")
    assert "without scheduling gate ledgergate.dev/ledger" in answer.message
    bound = validate(Ledgers([gate()], BEHIND), pod(node_name="node-0"))
    assert not bound.allowed
    assert "spec.nodeName is set" in bound.message


def test_one_bad_gate_of_two_holds() -> None:
    """Being good for one database does not make a pod good for another."""
    view = Ledgers([gate("one"), gate("two")], BEHIND, known={"one": THERE})
    assert mutate(view, pod()).verdict.gate == "two"


UNGATED = pod()


def test_the_gate_cannot_be_removed_while_the_verdict_is_bad() -> None:
    """The removal is refused, with the reason."""
    view = Ledgers([gate()], BEHIND)
    answer = admission(view).validate(update(HELD, UNGATED))
    assert not answer.allowed
    assert answer.message.startswith("scheduling gate ledgergate.dev/ledger stays: ledger app is at")


@pytest.mark.parametrize(
    ("old", "new", "snapshot"),
    [
        pytest.param(HELD, UNGATED, THERE, id="the verdict is good"),
        pytest.param(HELD, pod(SCHEDULING_GATE), BEHIND, id="the gate stays"),
        pytest.param(UNGATED, UNGATED, BEHIND, id="it runs already"),
        pytest.param(pod("other"), pod(), BEHIND, id="another tool's gate goes"),
    ],
)
def test_other_updates_pass(old: Pod, new: Pod, snapshot: LedgerSnapshot) -> None:
    """An update that does not remove the gate against the verdict is allowed."""
    assert admission(Ledgers([gate()], snapshot)).validate(update(old, new)).allowed


def test_a_terminating_pod_may_lose_its_gate() -> None:
    """Finalizers and garbage collection never wait for ledgergate."""
    going = Pod(metadata=Metadata(name="web-1", namespace="ns", labels={"guarded": ""}, deletion_timestamp="t"))
    assert admission(Ledgers([gate()], BEHIND)).validate(update(HELD, going)).allowed


def test_an_outage_is_answered_from_what_was_known() -> None:
    """With the database down, a pod whose revision was seen applied starts, and another is held."""
    lost = replace(THERE, fault=Fault.UNREACHABLE)
    assert mutate(Ledgers([gate()], lost), pod()).verdict.outcome.good
    assert mutate(Ledgers([gate()], lost), pod(revision="20260103000000_c")).result == "held"


def test_a_removal_is_judged_by_the_pod_as_it_was() -> None:
    """A request that removes the gate cannot at the same time change what the pod needs."""
    for new in (pod(revision=A), pod(guarded=False), pod(revision=None)):
        assert not admission(Ledgers([gate()], BEHIND)).validate(update(HELD, new)).allowed


# Reasons and warnings -------------------------------------------------------------------------------------------------


BAD = {
    Reason.BEHIND: (BEHIND, B),
    Reason.INCOMPLETE: (ledger(B), str(declare([A, B]))),
    Reason.DIRTY: (LedgerSnapshot(Ledger.of([Record(A, State.APPLIED), Record(B, State.FAILED)]), NOW), B),
    Reason.INCOMPATIBLE: (
        LedgerSnapshot(Ledger.of([Record(B, State.APPLIED), Record(C, State.APPLIED, compatible_from=C)]), NOW),
        B,
    ),
    Reason.UNREACHABLE: (LedgerSnapshot(fault=Fault.UNREACHABLE), B),
}


def test_the_answer_has_the_message_of_every_gate() -> None:
    """Warnings come in the order of the gates' names; a refusal keeps the warnings of the others."""
    gates = [gate("warns", on_behind=Action.WARN), gate("holds"), gate("audits", mode=Mode.AUDIT)]
    answer = validate(Ledgers(gates, BEHIND), HELD)
    assert answer.result is Result.HELD
    assert [warning.split(" is at")[0] for warning in answer.warnings] == [
        "audit only: ledger audits",
        "ledger holds",
        "ledger warns",
    ]
    refused = validate(Ledgers([*gates, gate("denies", on_behind=Action.DENY)], BEHIND), HELD)
    assert refused.message.startswith("ledger denies is at")
    assert [warning.split(" is at")[0] for warning in refused.warnings] == ["audit only: ledger audits", "ledger warns"]


# Outcomes in the metrics ----------------------------------------------------------------------------------------------


def test_what_is_not_decided_here_is_not_counted_as_held() -> None:
    """A bound pod that validation will refuse, and updates that remove no gate, count as passed."""
    assert mutate(Ledgers([gate()], BEHIND), pod(node_name="node-0")).result is Result.PASSED
    labelled = admission(Ledgers([gate()], BEHIND)).validate(update(HELD, pod(SCHEDULING_GATE, revision=A)))
    assert labelled.result is Result.PASSED


def test_a_bypass_is_counted_as_one() -> None:
    """Admitted with a warning and a reason of its own; the ledger is not read."""
    view = Ledgers([gate(bypass_until=NOW + timedelta(hours=1))], BEHIND)
    answer = validate(view, pod())
    assert (answer.result, answer.verdict.reason) == (Result.WARNED, Reason.BYPASSED)
    assert "bypassed" in answer.warnings[0]


# Readiness ------------------------------------------------------------------------------------------------------------


def conditions(answer: Answer) -> list[str]:
    return [
        gate["conditionType"]
        for step in answer.patch
        if step["path"].startswith("/spec/readinessGates")
        for gate in (step["value"] if isinstance(step["value"], list) else [step["value"]])
    ]


def test_readiness_gates_follow_the_gates() -> None:
    """One for each gate that selects the pod and asks for it, whatever the verdict; a gate that audits adds none."""
    gates = [
        gate("latch", readiness=Readiness.LATCH),
        gate("live", readiness=Readiness.LIVE),
        gate("off"),
        gate("audit", readiness=Readiness.LIVE, mode=Mode.AUDIT),
    ]
    for snapshot in (BEHIND, THERE):
        answer = mutate(Ledgers(gates, snapshot), pod())
        assert conditions(answer) == ["ledgergate.dev/latch", "ledgergate.dev/live"]
        assert {"op": "add", "path": "/metadata/labels/ledgergate.dev~1gated", "value": "true"} in answer.patch
    assert conditions(mutate(Ledgers(gates, THERE), pod(guarded=False))) == []


# Namespaces in audit --------------------------------------------------------------------------------------------------


def test_a_namespace_in_audit_is_warned() -> None:
    """The verdict's reason is kept, so that it can be counted; the pod is not changed."""
    view = Ledgers([gate(on_behind=Action.DENY)], BEHIND)
    answer = admission(view).audit(create(pod()))
    assert (answer.result, answer.verdict.reason) == (Result.WARNED, Reason.BEHIND)
    assert answer.warnings[0].startswith("audit only: ledger app is at")


def test_audit_warns_of_no_pod_that_no_gate_selects() -> None:
    """Enforce would hold it for some seconds only."""
    answer = admission(Ledgers([gate()], BEHIND)).audit(create(pod(guarded=False)))
    assert (answer.result, answer.warnings) == (Result.PASSED, ())
