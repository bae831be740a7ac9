from __future__ import annotations

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from migrations.ledger import Ledger, Record, State
from migrations.revision import Revision, declare

NAMES = [f"r{number:02}" for number in range(12)]
states = st.sampled_from(State)
some = st.sets(st.sampled_from(NAMES)).map(sorted)


def ledger_of(*names: str) -> Ledger:
    return Ledger.of(Record(name, State.APPLIED) for name in names)


@given(st.lists(st.tuples(st.sampled_from(NAMES), states), max_size=20))
def test_it_holds_what_is_applied_and_nothing_else(rows: list[tuple[str, State]]) -> None:
    """A failed or running revision is not held; a name recorded twice is held once, at its first place."""
    ledger = Ledger.of(Record(name, state) for name, state in rows)
    expected = list(dict.fromkeys(name for name, state in rows if state is State.APPLIED))
    assert list(ledger.applied) == expected
    assert ledger.head == (expected[-1] if expected else None)
    for name in NAMES:
        assert ledger.contains(name) is (name in expected)
        newer = len(expected) - expected.index(name) - 1 if name in expected else 0
        assert ledger.newer(name) == newer
        assert ledger.is_ahead_of(name) is (newer > 0)
    unsettled = [name for name, state in rows if state is not State.APPLIED]
    assert (ledger.dirty.revision if ledger.dirty else None) == (unsettled[0] if unsettled else None)


@given(st.lists(st.tuples(st.sampled_from(NAMES), states), max_size=20))
def test_equal_content_is_an_equal_ledger(rows: list[tuple[str, State]]) -> None:
    """Two readings of the same rows are equal, whatever either has computed since; any other rows are not."""
    first, second = (Ledger.of(Record(*row) for row in rows) for _ in range(2))
    first.gap(Revision("r00", 1, "0" * 12))
    assert first == second
    assert hash(first) == hash(second)
    assert first != Ledger.of([*first.records, Record("other", State.APPLIED)])


@given(known=some, applied=some)
def test_a_gap_is_a_missing_older_revision(known: list[str], applied: list[str]) -> None:
    """An image finds a gap in a ledger that lacks one of its own, unless late merges make up the number."""
    assume(known)
    revision, ledger = declare(known), ledger_of(*applied)
    up_to = [name for name in applied if name <= known[-1]]
    if known[-1] not in applied:
        assert ledger.gap(revision)
    elif len(up_to) > len(known):
        assert not ledger.gap(revision)
    else:
        assert ledger.gap(revision) is (up_to != known)
    assert ledger.gap(Revision(known[-1])) is (known[-1] not in applied)


@given(known=some, late=some)
def test_a_ledger_with_everything_has_no_gap(known: list[str], late: list[str]) -> None:
    """Whoever has all that the image knows is complete for it, whatever else there is."""
    assume(known)
    assert not ledger_of(*sorted({*known, *late})).gap(declare(known))


@pytest.mark.parametrize(
    ("name", "shut_out"),
    [("r00", True), ("r02", True), ("r03", False), ("r04", False), ("r05", False), ("r09", False)],
)
def test_a_contract_migration_shuts_older_images_out(name: str, shut_out: bool) -> None:
    """Images that expect a revision older than `compatible_from` cannot run any more; all others can."""
    contract = Record("r05", State.APPLIED, compatible_from="r03")
    ledger = Ledger.of([*(Record(name, State.APPLIED) for name in NAMES[:5]), contract])
    assert ledger.barrier(name) == (contract if shut_out else None)


def test_of_several_barriers_the_highest_counts() -> None:
    """The one that asks most is given; one that is not applied shuts nobody out."""
    low = Record("r03", State.APPLIED, compatible_from="r01")
    high = Record("r05", State.APPLIED, compatible_from="r04")
    later = Record("r06", State.FAILED, compatible_from="r06")
    ledger = Ledger.of([low, high, later])
    assert ledger.barrier("r00") is high
    assert ledger.barrier("r03") is high
    assert ledger.barrier("r04") is None
    assert Ledger().barrier("r00") is None


def test_questions_cost_the_same_whatever_the_length() -> None:
    """Ten thousand questions to ten thousand records take milliseconds, not minutes."""
    names = [f"{number:08}" for number in range(10_000)]
    ledger = ledger_of(*names)
    revision = declare(names)
    began = time.process_time()
    for name in names:
        assert ledger.contains(name)
        assert not ledger.gap(revision)
        assert ledger.barrier(name) is None
        ledger.is_ahead_of(name)
    assert time.process_time() - began < 1
