"""Label selectors match as Kubernetes documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.api.objects import LabelSelector, SelectorRequirement
from webhook.core.selector import compile_selector


def selects(labels: dict[str, str], key: str, operator: str, *values: str) -> bool:
    """Match one expression."""
    term = SelectorRequirement(key=key, operator=operator, values=list(values) or None)
    selector, problems = compile_selector(LabelSelector(match_expressions=[term]))
    assert problems == ()
    return selector.matches(labels)


@pytest.mark.parametrize(
    ("operator", "values", "same", "other", "empty", "missing"),
    [
        ("In", ("prod", "stage"), True, False, False, False),
        ("NotIn", ("prod", "stage"), False, True, True, True),
        ("Exists", (), True, True, True, False),
        ("DoesNotExist", (), False, False, False, True),
        ("In", ("",), False, False, True, False),
        ("NotIn", ("",), True, True, False, True),
    ],
)
def test_operators(operator: str, values: tuple[str, ...], same: bool, other: bool, empty: bool, missing: bool) -> None:
    """Each operator, also with a missing label, which NotIn matches, and an empty value."""
    assert selects({"env": "prod"}, "env", operator, *values) is same
    assert selects({"env": "test"}, "env", operator, *values) is other
    assert selects({"env": ""}, "env", operator, *values) is empty
    assert selects({"other": "prod"}, "env", operator, *values) is missing


def test_an_empty_selector_selects_everything() -> None:
    """As everywhere in Kubernetes, `{}` selects every pod."""
    selector, problems = compile_selector(LabelSelector())
    assert problems == ()
    assert selector.matches({})
    assert selector.matches({"a": "b"})


def test_all_terms_must_match() -> None:
    """Labels and expressions are combined by AND."""
    terms = [
        SelectorRequirement(key="tier", operator="In", values=["web"]),
        SelectorRequirement(key="skip", operator="DoesNotExist"),
    ]
    selector, _ = compile_selector(LabelSelector(match_labels={"app": "x", "env": ""}, match_expressions=terms))
    assert selector.matches({"app": "x", "env": "", "tier": "web", "more": "y"})
    assert not selector.matches({"app": "x", "tier": "web"})
    assert not selector.matches({"app": "x", "env": "", "tier": "web", "skip": ""})


def test_the_order_of_terms_does_not_count() -> None:
    """Two spellings of one selector compile to equal values, so that respelling a gate is no change."""
    terms = [
        SelectorRequirement(key="b", operator="In", values=["2", "1"]),
        SelectorRequirement(key="a", operator="Exists"),
    ]
    turned = [terms[1], SelectorRequirement(key="b", operator="In", values=["1", "2"])]
    one = compile_selector(LabelSelector(match_labels={"x": "1", "y": "2"}, match_expressions=terms))
    other = compile_selector(LabelSelector(match_labels={"y": "2", "x": "1"}, match_expressions=turned))
    assert one == other


@pytest.mark.parametrize(
    ("operator", "values", "field"),
    [
        ("Like", ["x"], "operator"),
        ("in", ["x"], "operator"),
        ("In", [], "values"),
        ("NotIn", None, "values"),
        ("Exists", ["x"], "values"),
        ("DoesNotExist", ["x"], "values"),
    ],
)
def test_an_expression_kubernetes_refuses_is_a_problem(operator: str, values: list[str] | None, field: str) -> None:
    """The problem names the expression's field, and the expression is left out."""
    good = SelectorRequirement(key="a", operator="Exists")
    bad = SelectorRequirement(key="b", operator=operator, values=values)
    selector, problems = compile_selector(LabelSelector(match_expressions=[good, bad]))
    assert [problem.split(":", maxsplit=1)[0] for problem in problems] == [f"spec.selector.matchExpressions[1].{field}"]
    assert selector.matches({"a": ""})


labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2"]))


@given(labels, st.sampled_from("abc"), st.lists(st.sampled_from(["", "1", "2"]), min_size=1))
def test_negations(found: dict[str, str], key: str, values: list[str]) -> None:
    """NotIn is exactly not In, and DoesNotExist exactly not Exists."""
    assert selects(found, key, "In", *values) is not selects(found, key, "NotIn", *values)
    assert selects(found, key, "Exists") is not selects(found, key, "DoesNotExist")


@given(labels)
def test_a_pod_is_selected_by_its_own_labels(found: dict[str, str]) -> None:
    """A selector made of a pod's labels selects it; with one more label it does not."""
    selector, _ = compile_selector(LabelSelector(match_labels=found))
    assert selector.matches(found)
    stricter, _ = compile_selector(LabelSelector(match_labels=found | {"d": "1"}))
    assert not stricter.matches(found)
