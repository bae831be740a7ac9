"""The verdict on a pod under every gate that selects it."""

from datetime import UTC, datetime
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from webhook.api.objects import Metadata, Pod
from webhook.core.gate import Action, Gate, Mode, Policy
from webhook.core.pod_verdict import AWAITING, UNSELECTED, await_gate, decide_pod, strictest
from webhook.core.requirement import read_requirement
from webhook.core.selector import Selector
from webhook.core.verdict import Outcome, Reason, Verdict, decide

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
DECLARING = Pod(metadata=Metadata(annotations={"ledgergate.dev/revision": "b", "revision.ledgergate.dev/other": "a"}))


def gate(name: str, **policy: Any) -> tuple[Gate, LedgerSnapshot]:
    """A gate whose ledger is at the revision a."""
    known = LedgerSnapshot(Ledger.of([Record("a", State.APPLIED)]), NOW)
    return Gate("ns", name, Selector(), "pg", "ledgergate", policy=Policy(**policy)), known


def test_no_gate_admits() -> None:
    """A pod that no gate selects, and that declares no revision, is admitted."""
    verdict = decide_pod(Pod(), [], NOW)
    assert verdict.final == UNSELECTED == Verdict(Reason.UNSELECTED, Outcome.ADMIT, "no LedgerGate selects this pod")
    assert verdict.by_gate == ()


def test_a_pod_whose_gate_may_not_exist_yet_is_held() -> None:
    """A pod that declares a revision is held while no gate selects it; as soon as one does, that gate decides."""
    waiting = decide_pod(DECLARING, [], NOW).final
    assert (waiting.reason, waiting.outcome) == (Reason.UNSELECTED, Outcome.HOLD)
    assert decide_pod(DECLARING, [gate("other")], NOW).final.reason is Reason.MATCHES


def test_a_pod_that_declares_nothing_waits_where_the_namespace_says_so() -> None:
    """It is held as one that declares a revision is; a migrator, for which the others wait, is not."""
    assert await_gate(Pod(), decide_pod(Pod(), [], NOW)).final is AWAITING
    assert (AWAITING.reason, AWAITING.outcome) == (Reason.UNSELECTED, Outcome.HOLD)
    migrator = Pod(metadata=Metadata(annotations={"ledgergate.dev/migrates": "app"}))
    assert await_gate(migrator, decide_pod(migrator, [], NOW)).final is UNSELECTED


def test_a_pod_that_needs_no_ledger_does_not_wait() -> None:
    """The annotation's one valid value skips the wait for a gate, and nothing else: a selecting gate still decides."""
    for value, final in (("start", UNSELECTED), ("Start", AWAITING), ("", AWAITING), ("wait", AWAITING)):
        pod = Pod(metadata=Metadata(annotations={"ledgergate.dev/undeclared": value}))
        assert await_gate(pod, decide_pod(pod, [], NOW)).final is final
    assert "ledgergate.dev/undeclared=start" in AWAITING.message
    annotations = {"ledgergate.dev/undeclared": "start", "ledgergate.dev/revision": "b"}
    for gates in ([gate("app")], []):
        pod = Pod(metadata=Metadata(annotations=annotations))
        decided = decide_pod(pod, gates, NOW)
        assert await_gate(pod, decided) is decided
        assert decided.final.outcome is Outcome.HOLD


def test_the_wait_changes_nothing_for_other_pods() -> None:
    """One that a gate selects is that gate's; one that declares a revision waits anyway."""
    for pod, gates in ((Pod(), [gate("app")]), (DECLARING, [gate("other")]), (DECLARING, [])):
        decided = decide_pod(pod, gates, NOW)
        assert await_gate(pod, decided) is decided


def test_each_gate_decides_by_its_own_requirement() -> None:
    """The decisions are in the order of the gates, each with what it was made from; the strictest is final."""
    gates = [gate("other"), gate("app"), gate("audited", mode=Mode.AUDIT, on_behind=Action.DENY)]
    verdict = decide_pod(DECLARING, gates, NOW)
    assert [(each.gate, each.snapshot) for each in verdict.by_gate] == gates
    assert [each.verdict.reason for each in verdict.by_gate] == [Reason.MATCHES, Reason.BEHIND, Reason.BEHIND]
    assert verdict.final is verdict.by_gate[1].verdict
    for each in verdict.by_gate:
        assert each.required == read_requirement(DECLARING, each.gate.name)
        assert each.verdict == decide(each.gate, each.required, each.snapshot, NOW)


def test_an_audit_keeps_what_enforce_would_do() -> None:
    """The outcome is a warning; the forecast of a workload names the outcome under Enforce."""
    held, denied = gate("app", mode=Mode.AUDIT), gate("app", mode=Mode.AUDIT, on_behind=Action.DENY)
    for audited, enforced in ((held, Outcome.HOLD), (denied, Outcome.DENY)):
        verdict = decide_pod(DECLARING, [audited], NOW).final
        assert (verdict.outcome, verdict.enforced) == (Outcome.WARN, enforced)
    assert decide_pod(DECLARING, [gate("other", mode=Mode.AUDIT)], NOW).final.enforced is Outcome.ADMIT


@given(st.lists(st.sampled_from(Outcome), max_size=5), st.randoms())
def test_the_strictest_verdict_does_not_depend_on_the_order(outcomes: list[Outcome], random: Random) -> None:
    """The same verdicts in another order give the same answer, as strict as the strictest of them."""
    verdicts = [Verdict(Reason.BEHIND, outcome, "", f"gate-{index}") for index, outcome in enumerate(outcomes)]
    shuffled = list(verdicts)
    random.shuffle(shuffled)
    final = strictest(shuffled)
    assert final == strictest(verdicts)
    assert (final.outcome if final else None) == max(outcomes, default=None)
