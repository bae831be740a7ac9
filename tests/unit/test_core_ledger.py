from __future__ import annotations

import time
from random import Random  # noqa: TC003 - hypothesis looks at the annotation

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from migrations.core.ledger import History, Ledger, Position, Record, State
from migrations.core.revision import Revision, declare
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect

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
        assert ledger.count_newer(name) == newer
        assert ledger.is_ahead_of(name) is (newer > 0)
    unsettled = [name for name, state in rows if state is not State.APPLIED]
    assert (ledger.dirty.revision if ledger.dirty else None) == (unsettled[0] if unsettled else None)


@given(st.lists(st.tuples(st.sampled_from(NAMES), states), max_size=20))
def test_equal_content_is_an_equal_ledger(rows: list[tuple[str, State]]) -> None:
    """Two readings of the same rows are equal, whatever either has computed since; any other rows are not."""
    first, second = (Ledger.of(Record(*row) for row in rows) for _ in range(2))
    first.is_complete_for(Revision("r00", 1, "0" * 12))
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
        assert not ledger.is_complete_for(revision)
    elif len(up_to) > len(known):
        assert ledger.is_complete_for(revision)
    else:
        assert ledger.is_complete_for(revision) is (up_to == known)
    assert ledger.is_complete_for(Revision(known[-1])) is (known[-1] in applied)


@given(known=some, late=some)
def test_a_ledger_with_everything_has_no_gap(known: list[str], late: list[str]) -> None:
    """Whoever has all that the image knows is complete for it, whatever else there is."""
    assume(known)
    assert ledger_of(*sorted({*known, *late})).is_complete_for(declare(known))


@pytest.mark.parametrize(
    ("name", "shut_out"),
    [("r00", True), ("r02", True), ("r03", False), ("r04", False), ("r05", False), ("r09", False)],
)
def test_a_contract_migration_shuts_older_images_out(name: str, shut_out: bool) -> None:
    """Images that expect a revision older than `compatible_from` cannot run any more; all others can."""
    contract = Record("r05", State.APPLIED, compatible_from="r03")
    ledger = Ledger.of([*(Record(name, State.APPLIED) for name in NAMES[:5]), contract])
    assert ledger.incompatible_contract_for(name) == (contract if shut_out else None)


def test_of_several_barriers_the_highest_counts() -> None:
    """The one that asks most is given; one that is not applied shuts nobody out."""
    low = Record("r03", State.APPLIED, compatible_from="r01")
    high = Record("r05", State.APPLIED, compatible_from="r04")
    later = Record("r06", State.FAILED, compatible_from="r06")
    ledger = Ledger.of([low, high, later])
    assert ledger.incompatible_contract_for("r00") is high
    assert ledger.incompatible_contract_for("r03") is high
    assert ledger.incompatible_contract_for("r04") is None
    assert Ledger().incompatible_contract_for("r00") is None


def test_questions_cost_the_same_whatever_the_length() -> None:
    """Ten thousand questions to ten thousand records take milliseconds, not minutes."""
    names = [f"{number:08}" for number in range(10_000)]
    ledger = ledger_of(*names)
    revision = declare(names)
    began = time.process_time()
    for name in names:
        assert ledger.contains(name)
        assert ledger.is_complete_for(revision)
        assert ledger.incompatible_contract_for(name) is None
        ledger.is_ahead_of(name)
    assert time.process_time() - began < 1


def kind(history: History, versioning: Versioning = Versioning.NAME) -> Dialect:
    return Dialect(
        name="test",
        table="t",
        columns=frozenset(),
        parse=lambda row: Record(row["name"], State.APPLIED),
        history=history,
        versioning=versioning,
        directory=lambda _directory: (),
        programs=(),
    )


@given(st.permutations(NAMES), st.integers(0, 12), st.integers(1, 12), st.randoms())
def test_what_ran_in_some_order_has_no_false_gap(order: list[str], applied: int, known: int, random: Random) -> None:
    """Whatever order the database ran them in, an image with no more than these is complete; one with more is not."""
    ran = order[:applied]
    random.shuffle(ran)
    ledger = kind(History.EXECUTION).parse_ledger({"name": name} for name in ran)
    assert ledger.head == (ran[-1] if ran else None)
    image = order[:known]
    assert ledger.is_complete_for(kind(History.EXECUTION).declare(image)) is (known <= applied)


@given(st.permutations(NAMES), st.integers(1, 12), st.integers(0, 11))
def test_what_ran_in_some_order_shows_a_gap(order: list[str], known: int, missing: int) -> None:
    """As many as the image knows, but another one among them: that is not what the image knows."""
    image = order[:known]
    ran = [name if place != missing else "other" for place, name in enumerate(image)]
    ledger = kind(History.EXECUTION).parse_ledger({"name": name} for name in ran)
    assert ledger.is_complete_for(kind(History.EXECUTION).declare(image)) is (missing >= known)


VERSIONS = [f"{number:03}_{name}" for number, name in enumerate("abcdefghij", 95)]


@given(st.sets(st.sampled_from(VERSIONS)), st.sets(st.sampled_from(VERSIONS), min_size=1))
def test_versions_are_found_by_file_names(applied: set[str], known: set[str]) -> None:
    """The ledger has numbers, 100 after 99; an image's files are found in it, and a gap is only a real one."""
    dialect = kind(History.NAMES, Versioning.LEADING_NUMBER)
    ledger = dialect.parse_ledger({"name": str(int(name[:3]))} for name in applied)
    assert all(ledger.contains(name) is (name in applied) for name in VERSIONS)
    assert ledger.head == (str(int(max(applied)[:3])) if applied else None)
    image, newest = dialect.declare(sorted(known)), max(known)
    up_to = {name for name in applied if name <= newest}
    if newest not in applied:
        assert not ledger.is_complete_for(image)
    elif len(up_to) <= len(known):
        assert ledger.is_complete_for(image) is (up_to == known)
    else:
        assert ledger.is_complete_for(image)
    # A digest over file names is none over versions: then only the number counts.
    assert ledger.is_complete_for(declare(sorted(known))) is (newest in applied and len(up_to) >= len(known))


@given(st.integers(0, 20), st.sampled_from(State), st.integers(0, 20))
def test_a_number_stands_for_all_below_it(top: int, state: State, asked: int) -> None:
    """What is dirty is not counted, and concerns nobody who is older."""
    ledger = Ledger.of([Record(str(top), state)], History.NUMBER, Versioning.LEADING_NUMBER)
    settled = state is State.APPLIED
    name = f"{asked:06}_name"
    assert ledger.contains(name) is (asked < top or (settled and asked == top))
    assert ledger.is_complete_for(Revision(name, asked + 1, "0" * 12)) is ledger.contains(name)
    assert (ledger.dirty_for(name) is None) is (settled or asked < top)
    if ledger.contains(name):
        assert ledger.position_for(name) is (Position.AT_HEAD if asked == top else Position.AHEAD)
    else:
        assert ledger.position_for(name) is Position.BEHIND
    assert not Ledger((), History.NUMBER, Versioning.LEADING_NUMBER).contains(name)


def heads(*names: str) -> Ledger:
    return kind(History.HEADS).parse_ledger({"name": name} for name in names)


def test_heads_that_were_seen_are_remembered() -> None:
    """Each new head is newer than those before it; one that comes back forgets what came after it."""
    ledger = heads()
    assert ledger.with_former_heads(["a", "b"]).applied == ()
    for name in "abcd":
        ledger = heads(name).with_former_heads(ledger.applied)
    assert ledger.applied == ("a", "b", "c", "d")
    assert [ledger.position_for(name) for name in "abcd"] == [Position.AHEAD] * 3 + [Position.AT_HEAD]
    assert [ledger.count_newer(name) for name in "abcd"] == [3, 2, 1, 0]
    ledger = heads("b").with_former_heads(ledger.applied)
    assert ledger.applied == ("a", "b")
    assert ledger.position_for("d") is Position.UNKNOWN
    ledger = heads("e").with_former_heads(ledger.applied)
    assert ledger.applied == ("a", "b", "e")
    assert ledger.is_complete_for(Revision("a", 5, "0" * 12))
    assert not ledger.is_complete_for(Revision("d", 5, "0" * 12))


def test_a_branch_forgets_nothing_of_the_other() -> None:
    """While one of two heads moves on, what led to it stays known; a downgrade of it is seen all the same."""
    ledger = heads("a")
    for branches in (("b", "x"), ("b", "y"), ("b", "z")):
        ledger = heads(*branches).with_former_heads(ledger.applied)
    assert set(ledger.applied) == {"a", "x", "y", "b", "z"}
    assert ledger.position_for("b") is ledger.position_for("z") is Position.AT_HEAD
    ledger = heads("b", "x").with_former_heads(ledger.applied)
    assert not ledger.contains("z")


def test_where_there_is_a_history_nothing_is_remembered() -> None:
    """What the table no longer has was undone."""
    for history in set(History) - {History.HEADS}:
        ledger = kind(history).parse_ledger([{"name": "b"}])
        assert ledger.with_former_heads(["a", "b", "c"]) is ledger


@pytest.mark.parametrize("history", [History.NAMES, History.EXECUTION])
def test_only_dirt_at_or_below_concerns_an_image(history: History) -> None:
    """Below is what comes before it in the ledger's own order, whatever the names."""
    order = ["r3", "r1", "r2"] if history is History.EXECUTION else ["r1", "r2", "r3"]
    for place, broken in enumerate(order):
        records = [Record(name, State.FAILED if name == broken else State.APPLIED) for name in order]
        ledger = Ledger.of(records, history)
        for other, name in enumerate(order):
            assert (ledger.dirty_for(name) is None) is (other < place)
    assert Ledger.of([Record("a", State.RUNNING)]).dirty_for("nosuch") is not None


@given(some, st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
def test_below_a_baseline_nothing_is_missing(applied: list[str], baseline: str, known: list[str]) -> None:
    """What is older counts as applied, however much of it an image knows; what is newer must be recorded."""
    records = [Record(name, State.APPLIED, baseline=name == baseline) for name in sorted({*applied, baseline})]
    ledger = Ledger.of([*records, Record("r99", State.FAILED)])
    for name in NAMES:
        assert ledger.contains(name) is (name <= baseline or name in applied)
        if ledger.contains(name):
            assert ledger.dirty_for(name) is None
            assert ledger.is_ahead_of(name) is (name != ledger.head)
    expected = declare(sorted(known))
    assert ledger.is_complete_for(expected) is ledger.contains(expected.name)
