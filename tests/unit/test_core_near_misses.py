"""A misspelt declaration, which has no effect, is reported with a hint."""

from dataclasses import replace

import msgspec
import pytest

from tests.admission_chain import NOW, Ledgers
from tests.admission_subjects import BEHIND, THERE, A, B, admission, create, gate, pod
from webhook.admission.handlers import Result
from webhook.admission.review import Request
from webhook.api.namespace import Namespace
from webhook.api.objects import Container, LabelSelector, Metadata, Pod, ReadinessGate, SelectorRequirement
from webhook.api.workload import Workload
from webhook.core.near_misses import find_misplaced, find_near_misses, find_unknown_labels
from webhook.core.patches import creation_patch
from webhook.core.readiness import assess
from webhook.core.requirement import read_requirement
from webhook.core.selector import compile_selector
from webhook.core.variables import literal_value


def annotated(**annotations: str) -> Pod:
    """Return a pod of the application; `_` stands for `/` and the first part is a key's prefix."""
    named = {key.replace("__", "/").replace("_", "."): value for key, value in annotations.items()}
    metadata = msgspec.structs.replace(pod().metadata, annotations=named)
    return msgspec.structs.replace(pod(), metadata=metadata)


def container(*variables: tuple[str, str | None], name: str = "a") -> Container:
    env = [{"name": key} if value is None else {"name": key, "value": value} for key, value in variables]
    return msgspec.json.decode(msgspec.json.encode({"name": name, "env": env}), type=Container)


@pytest.mark.parametrize(
    ("declared", "hint"),
    [
        (
            {"ledgergate_dev__migrates": "true"},
            "annotation ledgergate.dev/migrates names true, but this pod is selected",
        ),
        ({"ledgergate_dev__migrates": "ap, other"}, "names ap, other, but this pod is selected by app"),
        ({"revision_ledgergate_dev__ap": B}, "annotation revision.ledgergate.dev/ap names no LedgerGate"),
        ({"ancestors_ledgergate_dev__ap": B}, "annotation ancestors.ledgergate.dev/ap names no LedgerGate"),
        ({"ledgergate_dev__revison": B}, "ledgergate.dev/revison is not known: did you mean ledgergate.dev/revision?"),
        ({"ledgergate_dev__migrate": "app"}, "did you mean ledgergate.dev/migrates?"),
        ({"ledgergate_dev__undeclared": "start"}, "undeclared has no effect: this pod is selected by app"),
        ({"ledgergate_dev__undeclare": "start"}, "did you mean ledgergate.dev/undeclared?"),
        ({"ledgergate_dev__migrates": "app,other", "revision_ledgergate_dev__app": A}, None),
        ({"ledgergate_dev__contract": "x", "ledgergate_dev__released-at": "y", "example_com__a": "b"}, None),
    ],
)
def test_annotations(declared: dict[str, str], hint: str | None) -> None:
    """Misspelt keys and names of gates get a hint; correct ones, and annotations of other tools, do not."""
    found = find_near_misses(annotated(**declared), [gate()])
    assert (len(found), hint in found[0] if hint and found else None) == ((1, True) if hint else (0, None))
    assert find_near_misses(annotated(**declared), []) == ()


@pytest.mark.parametrize(
    ("label", "value", "hint"),
    [
        ("admission", "enabled", None),
        ("admission", "audit", None),
        ("undeclared", "wait", None),
        ("anything", "else", None),
        ("admission", "Enabled", "admission=Enabled is not known and has no effect: did you mean enabled?"),
        ("admission", "enable", "did you mean enabled?"),
        ("admission", "true", "admission=true is not known and has no effect: expected enabled or audit"),
        ("admission", "wait", "expected enabled or audit"),
        ("undeclared", "waits", "undeclared=waits is not known and has no effect: did you mean wait?"),
        ("undeclared", "", "undeclared= is not known and has no effect: expected wait"),
        ("undeclare", "wait", "undeclare is not known: did you mean ledgergate.dev/undeclared?"),
        ("admision", "enabled", "admision is not known: did you mean ledgergate.dev/admission?"),
    ],
)
def test_labels_of_a_namespace(label: str, value: str, hint: str | None) -> None:
    """A value or a name that is misspelt has no effect, and is named with what was probably meant."""
    labels = {f"ledgergate.dev/{label}": value, "kubernetes.io/metadata.name": "shop"}
    found = find_unknown_labels(Namespace(metadata=Metadata(labels=labels)))
    assert found == () if hint is None else len(found) == 1
    assert hint is None or found[0].endswith(hint)


def test_a_readiness_gate_of_no_gate() -> None:
    """A readiness gate that names no selecting LedgerGate is reported: its condition is True whatever the ledger."""
    gates = [ReadinessGate("ledgergate.dev/ap"), ReadinessGate("ledgergate.dev/app"), ReadinessGate("example.com/ap")]
    (hint,) = find_near_misses(pod(readiness_gates=gates), [gate()])
    assert hint.startswith("readiness gate ledgergate.dev/ap names no LedgerGate that selects this pod")


@pytest.mark.parametrize(
    ("containers", "hint"),
    [
        ([container(("E", A)), container(("E", B), name="b")], "variable E differs between a, b: the one in a counts"),
        ([container(("E", None))], "variable E has no literal value"),
        ([container(("E", "$(X)"))], "variable E has no literal value"),
        ([container(("E", None)), container(("E", B), name="b")], ""),
        ([container(("E", B)), container(("F", A), name="b")], ""),
        ([container(("F", B))], ""),
    ],
)
def test_the_gates_variable(containers: list[Container], hint: str) -> None:
    """Differing or unknown values get a hint, but not beside an annotation, which takes precedence."""
    named = replace(gate(), expect_env="E")
    found = find_near_misses(pod(revision=None, containers=containers), [named])
    assert [each[: len(hint)] for each in found] == ([hint] if hint else [])
    assert find_near_misses(pod(containers=containers), [named]) == ()


@pytest.mark.parametrize(
    ("variables", "value"),
    [
        ([("X", "1"), ("E", "$(X)_a")], "1_a"),
        ([("E", "$(X)_a"), ("X", "1")], None),
        ([("X", None), ("E", "$(X)")], None),
        ([("E", "$(X)")], None),
        ([("E", "$$(X)")], "$(X)"),
        ([("E", "a$b$")], "a$b$"),
        ([("E", "1"), ("E", "2")], "2"),
        ([("E", "1"), ("E", None)], None),
        ([("X", "1"), ("Y", "$(X)$(X)"), ("E", "$(Y)")], "11"),
        ([("F", "1")], None),
        ([], None),
    ],
)
def test_the_value_of_a_variable(variables: list[tuple[str, str | None]], value: str | None) -> None:
    """It is expanded as the kubelet does, and None where it depends on something outside the pod."""
    assert literal_value(container(*variables), "E") == value


def test_references_do_not_grow_without_end() -> None:
    """Each of forty variables has the one before it twice."""
    doubled = [("V0", "x" * 10), *((f"V{number}", f"$(V{number - 1})" * 2) for number in range(1, 40))]
    value = literal_value(container(*doubled), "V39")
    assert value is not None
    assert len(value) <= 1000


def test_a_reference_in_the_gates_variable_is_followed() -> None:
    """`EXPECTED_REVISION: $(TAG)` expects what TAG says, not the text `$(TAG)`."""
    found = pod(revision=None, containers=[container(("TAG", B), ("E", "$(TAG)"))])
    expected = read_requirement(found, "app", "E").expected
    assert expected is not None
    assert expected.name == B
    unknown = pod(revision=None, containers=[container(("E", "$(TAG)"))])
    assert read_requirement(unknown, "app", "E") == read_requirement(pod(revision=None), "app", None)


def test_a_hint_reaches_the_user_who_creates_the_pod() -> None:
    """The hint is a warning of an admitted pod, and part of a refusal and of a held pod's Event."""
    subject = annotated(ledgergate_dev__revision=B, ledgergate_dev__migrates="true")
    view = Ledgers([gate()], BEHIND)
    mutated = admission(view).mutate(create(subject))
    assert mutated.result is Result.HELD
    assert mutated.verdict.message.endswith("names true, but this pod is selected by app")
    refused = admission(view).validate(create(subject))
    assert "ledgergate.dev/migrates names true" in refused.message
    admitted = admission(Ledgers([gate()], THERE)).validate(create(subject))
    assert (admitted.result, len(admitted.warnings)) == (Result.ADMITTED, 1)
    assert "migrates" not in admitted.verdict.message, "a pod that starts needs no hint in its Event"


def workload(own: dict[str, str], template: dict[str, str], labels: dict[str, str]) -> Request[Workload]:
    whole = {
        "kind": "Deployment",
        "metadata": {"name": "web", "annotations": own},
        "spec": {"template": {"metadata": {"labels": labels, "annotations": template}}},
    }
    return Request(uid="u", operation="CREATE", namespace="ns", object=msgspec.convert(whole, Workload))


@pytest.mark.parametrize("guarded", [True, False])
def test_an_annotation_on_the_workload_instead_of_its_template(guarded: bool) -> None:
    """An annotation of the workload itself declares nothing: a warning says so, whether pods are selected or not."""
    labels = {"guarded": ""} if guarded else {}
    own = {"ledgergate.dev/revision": B, "revision.ledgergate.dev/app": B, "ledgergate.dev/released-at": "x"}
    answer = admission(Ledgers([gate()], THERE)).preview(workload(own, {}, labels))
    misplaced = [warning for warning in answer.warnings if "not on its pod template" in warning]
    assert [warning.split()[1] for warning in misplaced] == ["ledgergate.dev/revision", "revision.ledgergate.dev/app"]
    right = workload(own, {"ledgergate.dev/revision": B, "revision.ledgergate.dev/app": B}, labels)
    assert right.object is not None
    assert find_misplaced(right.object) == ()


def test_the_label_of_a_readiness_gate_that_the_template_declares() -> None:
    """Without the label the controller would not see the pod, and it would never be ready."""
    ours = pod(readiness_gates=[ReadinessGate("ledgergate.dev/app")])
    assert creation_patch(ours, hold=False)[-1]["path"].endswith("ledgergate.dev~1gated")
    assert creation_patch(pod(readiness_gates=[ReadinessGate("example.com/app")]), hold=False) == []


def test_a_running_pod_is_not_said_to_be_held() -> None:
    """The message of its condition says that it is not ready, not that it is held."""
    verdict = assess(None, pod(), gate(readiness="Live"), BEHIND, NOW)
    assert verdict is not None
    assert verdict.message == f"ledger app is at {A}, the pod expects {B}: the pod is not ready until it is applied"


@pytest.mark.parametrize(
    ("selector", "problem"),
    [
        (
            LabelSelector(match_labels={"app name": "x"}),
            "spec.selector.matchLabels: 'app name' is not the key of a label",
        ),
        (LabelSelector(match_labels={"a/b/c": "x"}), "spec.selector.matchLabels: 'a/b/c' is not the key"),
        (LabelSelector(match_labels={"app": "x y"}), "spec.selector.matchLabels: 'x y' is not the value of a label"),
        (
            LabelSelector(match_expressions=[SelectorRequirement(key="-a", operator="Exists")]),
            "spec.selector.matchExpressions[0]: '-a' is not the key of a label",
        ),
        (LabelSelector(match_labels={"app.kubernetes.io/part-of": "x", "a": "", "A_b": "c.d"}), ""),
    ],
)
def test_a_selector_that_can_match_no_pod(selector: LabelSelector, problem: str) -> None:
    """A key or a value that no label can have makes the gate's pods unguarded: the gate says so."""
    compiled, problems = compile_selector(selector)
    assert [found.startswith(problem) for found in problems] == ([True] if problem else [])
    assert bool(compiled.terms) is not bool(problem)
