"""The index of a namespace's gates finds the same gates as a comparison with each of them."""

from hypothesis import given
from hypothesis import strategies as st

from webhook.cache.gate_index import GateIndex
from webhook.core.gate import Gate
from webhook.core.selector import Selector

LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"))
TERMS = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(("In", "NotIn", "Exists", "DoesNotExist")),
    st.frozensets(st.sampled_from("xyz"), min_size=1),
)


@given(st.lists(st.lists(TERMS, max_size=3), max_size=8), LABELS)
def test_the_index_finds_what_a_comparison_with_every_gate_finds(
    selectors: list[list[tuple[str, str, frozenset[str]]]], labels: dict[str, str]
) -> None:
    """Whatever the selectors and the labels; each gate once."""
    gates = [
        Gate("ns", f"gate-{number}", Selector(tuple(terms)), "pg", "ledgergate")
        for number, terms in enumerate(selectors)
    ]
    found = GateIndex(gates).selecting(labels)
    expected = [gate.name for gate in gates if gate.selector.matches(labels)]
    assert sorted(gate.name for gate in found) == expected
