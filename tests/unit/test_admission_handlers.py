"""What a verdict means for a pod that is created or loses its gate, and when the ledger is refreshed first."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.revision import declare
from migrations.core.snapshot import Fault, LedgerSnapshot
from tests.admission_chain import NOW, Ledgers
from tests.admission_subjects import BEHIND, THERE, A, B, C, admission, create, gate, ledger, pod, update
from webhook.admission.handlers import Answer, Result
from webhook.api.objects import GATED_LABEL, SCHEDULING_GATE, Metadata, Pod
from webhook.core.gate import Action, Mode, Readiness
from webhook.core.verdict import Outcome, Reason

HELD = pod(SCHEDULING_GATE)


async def mutate(view: Ledgers, found: Pod) -> Answer:
    return await admission(view).mutate(create(found))


async def validate(view: Ledgers, found: Pod) -> Answer:
    return await admission(view).validate(create(found))


async def test_mutation_holds_what_may_not_run() -> None:
    """A bad verdict adds the scheduling gate and the label, and the pod is created."""
    answer = await mutate(Ledgers([gate()], BEHIND), pod())
    assert answer.allowed
    assert answer.result == "held"
    assert [step["path"] for step in answer.patch] == [
        "/spec/schedulingGates",
        "/metadata/labels/ledgergate.dev~1gated",
    ]


async def test_mutation_removes_the_gate_of_a_pod_that_may_run() -> None:
    """A good verdict removes the gate that the API server's own policy added, in the same request."""
    answer = await mutate(Ledgers([gate()], THERE), pod("other", SCHEDULING_GATE))
    assert answer.result == "admitted"
    assert [step["op"] for step in answer.patch] == ["test", "remove"]
    assert answer.patch[1]["path"] == "/spec/schedulingGates/1"


async def test_mutation_changes_nothing_that_is_right_already() -> None:
    """Called twice (reinvocation), the second answer changes nothing."""
    assert (await mutate(Ledgers([gate()], THERE), pod())).patch == []
    held = replace_labels(HELD, {"guarded": "", GATED_LABEL: "true"})
    assert (await mutate(Ledgers([gate()], BEHIND), held)).patch == []


def replace_labels(found: Pod, labels: dict[str, str]) -> Pod:
    metadata = Metadata(name=found.metadata.name, namespace="ns", labels=labels, annotations=found.metadata.annotations)
    return Pod(metadata=metadata, spec=found.spec)


async def test_mutation_removes_the_gate_of_a_pod_that_no_gate_selects() -> None:
    """In an opted-in namespace the policy gates every pod; one that no LedgerGate selects starts at once."""
    answer = await mutate(Ledgers([gate()], BEHIND), pod(SCHEDULING_GATE, revision=None, guarded=False))
    assert answer.verdict.reason is Reason.UNSELECTED
    assert [step["op"] for step in answer.patch] == ["test", "remove"]


async def test_a_pod_whose_gate_may_be_on_its_way_is_held_and_never_refused() -> None:
    """Helm creates custom resources last: a pod that declares a revision waits for its gate, and no ledger is read."""
    view = Ledgers([gate()], BEHIND)
    answer = await mutate(view, pod(guarded=False))
    assert (answer.verdict.reason, answer.result) == (Reason.UNSELECTED, "held")
    assert answer.patch
    for found in (pod(guarded=False), pod(SCHEDULING_GATE, guarded=False), pod(guarded=False, node_name="node-0")):
        assert (await validate(view, found)).allowed
    assert view.refreshes == []


async def test_mutation_holds_what_validation_will_deny() -> None:
    """Should the validating call fail (it is allowed to, for a pod with our gate), a denied pod is at least held."""
    answer = await mutate(Ledgers([gate(on_behind=Action.DENY)], BEHIND), pod())
    assert answer.allowed
    assert answer.patch


async def test_mutation_puts_no_gate_on_a_bound_pod() -> None:
    """The API refuses a scheduling gate on a pod with a node name, with a message that does not say why."""
    answer = await mutate(Ledgers([gate()], BEHIND), pod(node_name="node-0"))
    assert answer.allowed
    assert answer.patch == []


async def test_validation_admits_what_is_held() -> None:
    """A pod with the gate waits; it is not refused, and its ledger is not read again."""
    view = Ledgers([gate()], BEHIND)
    answer = await validate(view, HELD)
    assert answer.allowed
    assert view.refreshes == []


async def test_validation_refuses_what_should_be_held_and_is_not() -> None:
    """No pod passes without the gate: there, a bad verdict is a refusal that says why."""
    answer = await validate(Ledgers([gate()], BEHIND), pod("other"))
    assert not answer.allowed
    assert answer.result == "denied"
    assert answer.message.startswith(f"ledger app is at {A}, the pod expects {B}")
    assert "without scheduling gate ledgergate.dev/ledger" in answer.message
    bound = await validate(Ledgers([gate()], BEHIND), pod(node_name="node-0"))
    assert not bound.allowed
    assert "spec.nodeName is set" in bound.message


@pytest.mark.parametrize("found", [pod(), HELD])
async def test_validation_denies_where_the_gate_says_deny(found: Pod) -> None:
    """`onBehind: Deny` refuses the pod, held or not."""
    answer = await validate(Ledgers([gate(on_behind=Action.DENY)], BEHIND), found)
    assert not answer.allowed
    assert answer.message == answer.verdict.message


@pytest.mark.parametrize(
    ("policy", "warned"), [({"on_behind": Action.WARN}, True), ({"mode": Mode.AUDIT}, True), ({}, False)]
)
async def test_validation_warns(policy: dict[str, Any], warned: bool) -> None:
    """A warning goes with an admission, once: validation shows it, mutation does not."""
    view = Ledgers([gate(**policy)], BEHIND if warned else THERE)
    answer = await validate(view, pod())
    assert answer.allowed
    assert answer.warnings == ((answer.verdict.message,) if warned else ())
    assert (await mutate(view, pod())).warnings == ()


async def test_a_good_verdict_reads_no_ledger() -> None:
    """On the good path admission does no I/O."""
    view = Ledgers([gate()], THERE)
    await mutate(view, pod())
    await validate(view, pod())
    assert view.refreshes == []


@pytest.mark.parametrize("ask", [mutate, validate])
async def test_a_stale_cache_never_holds(ask: Callable[[Ledgers, Pod], Any]) -> None:
    """Where the cached ledger is behind, it is read again, within a time limit, and the new reading decides."""
    view = Ledgers([gate()], BEHIND, fresh={"app": THERE})
    answer = await ask(view, pod())
    assert answer.verdict.reason is Reason.MATCHES
    assert answer.allowed
    assert view.refreshes == [(["app"], 0.25)]


async def test_only_bad_ledgers_are_refreshed() -> None:
    """Of several gates, those that are satisfied are not refreshed; the pod needs every one of them."""
    view = Ledgers([gate("good"), gate("bad"), gate("worse", on_behind=Action.DENY)], BEHIND, known={"good": THERE})
    answer = await mutate(view, pod())
    assert view.refreshes == [(["bad", "worse"], 0.25)]
    assert answer.verdict.gate == "worse"
    assert answer.verdict.outcome is Outcome.DENY
    view = Ledgers([gate("good"), gate("bad")], BEHIND, known={"good": THERE}, fresh={"bad": THERE})
    assert (await mutate(view, pod())).verdict.outcome.good


async def test_one_bad_gate_of_two_holds() -> None:
    """Being good for one database does not make a pod good for another."""
    view = Ledgers([gate("one"), gate("two")], BEHIND, known={"one": THERE})
    assert (await mutate(view, pod())).verdict.gate == "two"


UNGATED = pod()


async def test_the_gate_cannot_be_removed_while_the_verdict_is_bad() -> None:
    """The removal is refused, with the reason; the ledger was read again."""
    view = Ledgers([gate()], BEHIND)
    answer = await admission(view).validate(update(HELD, UNGATED))
    assert not answer.allowed
    assert answer.message.startswith("scheduling gate ledgergate.dev/ledger stays: ledger app is at")
    assert len(view.refreshes) == 1


@pytest.mark.parametrize(
    ("old", "new", "snapshot"),
    [
        pytest.param(HELD, UNGATED, THERE, id="the verdict is good"),
        pytest.param(HELD, pod(SCHEDULING_GATE), BEHIND, id="the gate stays"),
        pytest.param(UNGATED, UNGATED, BEHIND, id="it runs already"),
        pytest.param(pod("other"), pod(), BEHIND, id="another tool's gate goes"),
    ],
)
async def test_other_updates_pass(old: Pod, new: Pod, snapshot: LedgerSnapshot) -> None:
    """An update that does not remove the gate against the verdict is allowed."""
    assert (await admission(Ledgers([gate()], snapshot)).validate(update(old, new))).allowed


async def test_a_terminating_pod_may_lose_its_gate() -> None:
    """Finalizers and garbage collection never wait for ledgergate."""
    going = Pod(metadata=Metadata(name="web-1", namespace="ns", labels={"guarded": ""}, deletion_timestamp="t"))
    assert (await admission(Ledgers([gate()], BEHIND)).validate(update(HELD, going))).allowed


async def test_an_outage_is_answered_from_what_was_known() -> None:
    """With the database down, a pod whose revision was seen applied starts, and another is held."""
    lost = replace(THERE, fault=Fault.UNREACHABLE)
    assert (await mutate(Ledgers([gate()], lost), pod())).verdict.outcome.good
    assert (await mutate(Ledgers([gate()], lost), pod(revision="20260103000000_c"))).result == "held"


async def test_a_removal_is_judged_by_the_pod_as_it_was() -> None:
    """A request that removes the gate cannot at the same time change what the pod needs."""
    for new in (pod(revision=A), pod(guarded=False), pod(revision=None)):
        assert not (await admission(Ledgers([gate()], BEHIND)).validate(update(HELD, new))).allowed


# Warnings, and when the ledger is refreshed first ---------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{"on_behind": Action.WARN}, {"mode": Mode.AUDIT}])
async def test_a_stale_cache_never_warns(policy: dict[str, Any]) -> None:
    """Before a warning that the ledger is behind, it is read again, as before a pod is held."""
    view = Ledgers([gate(**policy)], BEHIND, fresh={"app": THERE})
    answer = await validate(view, pod())
    assert (answer.result, answer.warnings) == (Result.ADMITTED, ())
    assert view.refreshes == [(["app"], 0.25)]


STALE = {
    Reason.BEHIND: (BEHIND, B),
    Reason.INCOMPLETE: (ledger(B), str(declare([A, B]))),
    Reason.DIRTY: (LedgerSnapshot(Ledger.of([Record(A, State.APPLIED), Record(B, State.FAILED)]), NOW), B),
    Reason.INCOMPATIBLE: (
        LedgerSnapshot(Ledger.of([Record(B, State.APPLIED), Record(C, State.APPLIED, compatible_from=C)]), NOW),
        B,
    ),
    Reason.UNREACHABLE: (LedgerSnapshot(fault=Fault.UNREACHABLE), B),
}


@pytest.mark.parametrize("reason", STALE)
async def test_whatever_may_have_been_mended_is_read_again(reason: Reason) -> None:
    """Each fault that a cached reading shows may have been mended since."""
    cached, revision = STALE[reason]
    bad = await mutate(Ledgers([gate()], cached), pod(revision=revision))
    assert (bad.result, bad.verdict.reason) == (Result.HELD, reason)
    answer = await mutate(Ledgers([gate()], cached, fresh={"app": THERE}), pod(revision=revision))
    assert answer.result is Result.ADMITTED


async def test_mutation_refreshes_nothing_for_a_warning() -> None:
    """Mutation sends no warnings, and the pod starts either way."""
    view = Ledgers([gate(on_behind=Action.WARN)], BEHIND)
    assert (await mutate(view, pod())).result is Result.WARNED
    assert view.refreshes == []


@pytest.mark.parametrize(
    ("policy", "revision"),
    [({"on_undeclared": Action.HOLD}, None), ({"on_undeclared": Action.DENY}, None), ({}, "a+b")],
)
async def test_what_no_ledger_could_change_reads_none(policy: dict[str, Any], revision: str | None) -> None:
    """A pod that declares no revision, or an invalid one, is judged without its ledger."""
    view = Ledgers([gate(**policy)], BEHIND)
    assert not (await mutate(view, pod(revision=revision))).verdict.outcome.good
    await validate(view, pod(revision=revision))
    assert view.refreshes == []


async def test_a_pod_that_is_denied_for_being_old_is_judged_by_a_new_reading() -> None:
    """Under `onAhead: Deny` a ledger that was rolled back lets the pod in; under Warn old pods cost no query."""
    view = Ledgers([gate(on_ahead=Action.DENY)], THERE, fresh={"app": BEHIND})
    assert (await validate(view, pod(revision=A))).result is Result.ADMITTED
    view = Ledgers([gate(on_ahead=Action.WARN)], THERE)
    assert (await validate(view, pod(revision=A))).result is Result.WARNED
    assert view.refreshes == []


async def test_the_answer_has_the_message_of_every_gate() -> None:
    """Warnings come in the order of the gates' names; a refusal keeps the warnings of the others."""
    gates = [gate("warns", on_behind=Action.WARN), gate("holds"), gate("audits", mode=Mode.AUDIT)]
    answer = await validate(Ledgers(gates, BEHIND), HELD)
    assert answer.result is Result.HELD
    assert [warning.split(" is at")[0] for warning in answer.warnings] == [
        "audit only: ledger audits",
        "ledger holds",
        "ledger warns",
    ]
    refused = await validate(Ledgers([*gates, gate("denies", on_behind=Action.DENY)], BEHIND), HELD)
    assert refused.message.startswith("ledger denies is at")
    assert [warning.split(" is at")[0] for warning in refused.warnings] == ["audit only: ledger audits", "ledger warns"]


# What is counted as what ----------------------------------------------------------------------------------------------


async def test_what_is_not_decided_here_is_not_counted_as_held() -> None:
    """A bound pod that validation will refuse, and updates that remove no gate, count as passed."""
    assert (await mutate(Ledgers([gate()], BEHIND), pod(node_name="node-0"))).result is Result.PASSED
    labelled = await admission(Ledgers([gate()], BEHIND)).validate(update(HELD, pod(SCHEDULING_GATE, revision=A)))
    assert labelled.result is Result.PASSED


async def test_a_bypass_is_counted_as_one() -> None:
    """Admitted with a warning and a reason of its own; the ledger is not read."""
    view = Ledgers([gate(bypass_until=NOW + timedelta(hours=1))], BEHIND)
    answer = await validate(view, pod())
    assert (answer.result, answer.verdict.reason) == (Result.WARNED, Reason.BYPASSED)
    assert "bypassed" in answer.warnings[0]
    assert view.refreshes == []


# Readiness ------------------------------------------------------------------------------------------------------------


def conditions(answer: Answer) -> list[str]:
    return [
        gate["conditionType"]
        for step in answer.patch
        if step["path"].startswith("/spec/readinessGates")
        for gate in (step["value"] if isinstance(step["value"], list) else [step["value"]])
    ]


async def test_readiness_gates_follow_the_gates() -> None:
    """One for each gate that selects the pod and asks for it, whatever the verdict; a gate that audits adds none."""
    gates = [
        gate("latch", readiness=Readiness.LATCH),
        gate("live", readiness=Readiness.LIVE),
        gate("off"),
        gate("audit", readiness=Readiness.LIVE, mode=Mode.AUDIT),
    ]
    for snapshot in (BEHIND, THERE):
        answer = await mutate(Ledgers(gates, snapshot), pod())
        assert conditions(answer) == ["ledgergate.dev/latch", "ledgergate.dev/live"]
        assert {"op": "add", "path": "/metadata/labels/ledgergate.dev~1gated", "value": "true"} in answer.patch
    assert conditions(await mutate(Ledgers(gates, THERE), pod(guarded=False))) == []


# Namespaces in audit --------------------------------------------------------------------------------------------------


async def test_a_namespace_in_audit_is_warned() -> None:
    """The verdict's reason is kept, so that it can be counted; the pod is not changed."""
    view = Ledgers([gate(on_behind=Action.DENY)], BEHIND)
    answer = await admission(view).audit(create(pod()))
    assert (answer.result, answer.verdict.reason) == (Result.WARNED, Reason.BEHIND)
    assert answer.warnings[0].startswith("audit only: ledger app is at")
    assert len(view.refreshes) == 1


async def test_audit_warns_of_no_pod_that_no_gate_selects() -> None:
    """Enforce would hold it for some seconds only."""
    answer = await admission(Ledgers([gate()], BEHIND)).audit(create(pod(guarded=False)))
    assert (answer.result, answer.warnings) == (Result.PASSED, ())
