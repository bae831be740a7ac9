"""The labels of a held pod: those that a LedgerGate selects it by cannot change, all others can."""

from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.admission_chain import Ledgers
from tests.admission_subjects import BEHIND, THERE, C, admission, gate, pod, update
from webhook.admission.freeze import find_loss
from webhook.admission.handlers import Answer, Result
from webhook.api.objects import SCHEDULING_GATE, Pod
from webhook.core.gate import Gate, Mode
from webhook.core.selector import Selector
from webhook.core.verdict import Reason

HELD = pod(SCHEDULING_GATE)

keys = st.sampled_from("abc")
values = st.sampled_from("xyz")
labels = st.dictionaries(keys, values, max_size=3)
terms = st.one_of(
    st.tuples(keys, st.sampled_from(["In", "NotIn"]), st.frozensets(values, min_size=1)),
    st.tuples(keys, st.sampled_from(["Exists", "DoesNotExist"]), st.just(frozenset[str]())),
)
gates = st.lists(st.lists(terms, max_size=3).map(tuple), max_size=4).map(
    lambda selectors: [Gate("ns", f"g{i}", Selector(each), "pg", "knex") for i, each in enumerate(selectors)]
)


def selecting(known: list[Gate], found: Mapping[str, str]) -> list[Gate]:
    return [each for each in known if each.selector.matches(found)]


@given(gates, st.lists(labels, min_size=2, max_size=6))
def test_no_sequence_of_free_changes_loses_a_gate(known: list[Gate], steps: list[dict[str, str]]) -> None:
    """Every gate that selected the pod at first still selects it after any sequence of allowed changes."""
    pod_labels = steps[0]
    for wanted in steps[1:]:
        if find_loss(selecting(known, pod_labels), wanted) is None:
            pod_labels = wanted
    assert {each.name for each in selecting(known, steps[0])} <= {each.name for each in selecting(known, pod_labels)}


@given(gates, labels, labels)
def test_a_loss_names_its_gates_and_labels(known: list[Gate], old: dict[str, str], new: dict[str, str]) -> None:
    """The gates are those that are lost, and putting the named labels back as they were makes the change free."""
    before = selecting(known, old)
    loss = find_loss(before, new)
    lost = sorted(each.name for each in before if not each.selector.matches(new))
    assert (list(loss.gates) if loss else []) == lost
    if loss is not None:
        assert all(old.get(key) != new.get(key) for key in loss.labels)
        kept = {key: value for key, value in old.items() if key in loss.labels}
        others = {key: value for key, value in new.items() if key not in loss.labels}
        assert find_loss([each for each in before if each.name in lost], kept | others) is None


@given(gates, labels, st.dictionaries(st.sampled_from("def"), values, max_size=3))
def test_labels_that_no_selector_names_are_free(known: list[Gate], old: dict[str, str], others: dict[str, str]) -> None:
    """They can be added and removed."""
    assert find_loss(selecting(known, old), old | others) is None
    assert find_loss(selecting(known, old | others), old) is None


def relabelled(found: Pod, **changed: str) -> Pod:
    return Pod(metadata=msgspec.structs.replace(found.metadata, labels=changed), spec=found.spec)


def relabel(view: Ledgers, old: Pod, new: Pod) -> Answer:
    return admission(view).relabel(update(old, new))


def test_a_label_that_a_gate_selects_by_is_refused_with_the_way_on() -> None:
    """The refusal names the label, the gate, why the pod waits and both ways on, one of them a command to copy."""
    answer = relabel(Ledgers([gate()], BEHIND), HELD, relabelled(HELD, other="x"))
    assert (answer.result, answer.verdict.reason) == (Result.DENIED, Reason.BEHIND)
    assert (
        "label guarded cannot change while the pod is held, since LedgerGate app selects it thereby" in answer.message
    )
    assert "delete the pod" in answer.message
    assert "`ledgergate bypass app -n ns --for 30m --reason TEXT`" in answer.message
    assert answer.verdict.message in answer.message


def test_several_gates_are_all_named() -> None:
    """The message names them in the plural, sorted by name."""
    answer = relabel(Ledgers([gate("b"), gate("a")], BEHIND), HELD, relabelled(HELD))
    assert "LedgerGates a, b select it" in answer.message


def test_judged_by_the_pod_as_it_was() -> None:
    """A pod cannot be made a migrator in the request that takes its label away."""
    metadata = msgspec.structs.replace(HELD.metadata, labels=None, annotations={"ledgergate.dev/migrates": "app"})
    answer = relabel(Ledgers([gate()], BEHIND), HELD, Pod(metadata=metadata, spec=HELD.spec))
    assert answer.result is Result.DENIED


def test_a_pod_that_may_start_may_be_relabelled() -> None:
    """Its scheduling gate may be removed at any moment, so freezing its labels would protect nothing."""
    for view in (Ledgers([gate()], THERE), Ledgers([gate(mode=Mode.AUDIT)], BEHIND)):
        assert relabel(view, HELD, relabelled(HELD)).allowed


def test_one_bad_verdict_freezes_the_labels_of_every_gate() -> None:
    """A gate whose verdict is good now may have a bad one by the time the pod is released."""
    other = Gate("ns", "other", Selector((("tier", "Exists", frozenset()),)), "pg", "ledgergate")
    held = relabelled(pod(SCHEDULING_GATE, revision=C), guarded="", tier="x")
    view = Ledgers([gate(), other], BEHIND, known={"other": THERE})
    assert relabel(view, held, relabelled(held, guarded="")).result is Result.DENIED


def test_only_held_pods_are_asked_about() -> None:
    """A running pod, a pod that is being deleted, and a label's value that no gate selects by may change."""
    view = Ledgers([gate()], BEHIND)
    ending = Pod(metadata=msgspec.structs.replace(HELD.metadata, deletion_timestamp="x"), spec=HELD.spec)
    for old in (pod(), ending):
        assert relabel(view, old, relabelled(old)).result is Result.PASSED
    assert relabel(view, HELD, relabelled(HELD, guarded="other", more="x")).result is Result.PASSED
