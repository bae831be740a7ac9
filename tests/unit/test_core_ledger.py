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
def test_a_ledger_contains_exactly_the_applied_revisions(rows: list[tuple[str, State]]) -> None:
    """A failed or running revision is not contained; a name that is recorded twice counts once, at its first place."""
    ledger = Ledger.of(Record(name, state) for name, state in rows)
    expected = list(dict.fromkeys(name for name, state in rows if state is State.APPLIED))
    assert list(ledger.applied) == expected
    assert ledger.head == (expected[-1] if expected else None)
    for name in NAMES:
        assert ledger.contains(name) is (name in expected)
        newer = len(expected) - expected.index(name) - 1 if name in expected else 0
        assert ledger.count_newer(name) == newer
        assert ledger.is_ahead_of(name) is (newer > 0)
    dirty = [name for name, state in rows if state is not State.APPLIED]
    assert (ledger.dirty.revision if ledger.dirty else None) == (dirty[0] if dirty else None)


@given(st.lists(st.tuples(st.sampled_from(NAMES), states), max_size=20))
def test_equal_content_is_an_equal_ledger(rows: list[tuple[str, State]]) -> None:
    """Ledgers of the same rows are equal, whatever either has computed and cached; ledgers of other rows are not."""
    first, second = (Ledger.of(Record(*row) for row in rows) for _ in range(2))
    first.is_complete_for(Revision("r00", 1, "0" * 12))
    assert first == second
    assert hash(first) == hash(second)
    assert first != Ledger.of([*first.records, Record("other", State.APPLIED)])


@given(known=some, applied=some)
def test_a_ledger_that_lacks_an_older_revision_is_incomplete(known: list[str], applied: list[str]) -> None:
    """It lacks a revision that the image knows, unless late merges make up the number."""
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
def test_a_ledger_with_every_known_revision_is_complete(known: list[str], late: list[str]) -> None:
    """Revisions that the image does not know change nothing."""
    assume(known)
    assert ledger_of(*sorted({*known, *late})).is_complete_for(declare(known))


@pytest.mark.parametrize(
    ("name", "excluded"),
    [("r00", True), ("r02", True), ("r03", False), ("r04", False), ("r05", False), ("r09", False)],
)
def test_a_contract_migration_excludes_older_images(name: str, excluded: bool) -> None:
    """Images that expect a revision older than `compatible_from` cannot run, all others can."""
    contract = Record("r05", State.APPLIED, compatible_from="r03")
    ledger = Ledger.of([*(Record(name, State.APPLIED) for name in NAMES[:5]), contract])
    assert ledger.incompatible_contract_for(name) == (contract if excluded else None)


def test_of_several_contract_migrations_the_strictest_counts() -> None:
    """It has the newest `compatible_from`; a contract migration that is not applied excludes no image."""
    low = Record("r03", State.APPLIED, compatible_from="r01")
    high = Record("r05", State.APPLIED, compatible_from="r04")
    later = Record("r06", State.FAILED, compatible_from="r06")
    ledger = Ledger.of([low, high, later])
    assert ledger.incompatible_contract_for("r00") is high
    assert ledger.incompatible_contract_for("r03") is high
    assert ledger.incompatible_contract_for("r04") is None
    assert Ledger().incompatible_contract_for("r00") is None


def test_an_answer_takes_constant_time() -> None:
    """Ten thousand questions about ten thousand records take milliseconds, not minutes."""
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


def dialect_with(history: History, versioning: Versioning = Versioning.NAME) -> Dialect:
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
def test_the_order_of_execution_makes_no_ledger_incomplete(
    order: list[str], applied: int, known: int, random: Random
) -> None:
    """In whatever order they ran, the ledger is complete for an image that knows no more, and for no other."""
    ran = order[:applied]
    random.shuffle(ran)
    ledger = dialect_with(History.EXECUTION).parse_ledger({"name": name} for name in ran)
    assert ledger.head == (ran[-1] if ran else None)
    image = order[:known]
    assert ledger.is_complete_for(dialect_with(History.EXECUTION).declare(image)) is (known <= applied)


@given(st.permutations(NAMES), st.integers(1, 12), st.integers(0, 11))
def test_a_ledger_of_executions_with_another_revision_is_incomplete(order: list[str], known: int, missing: int) -> None:
    """As many revisions are applied as the image knows, and one of them is another."""
    image = order[:known]
    ran = [name if place != missing else "other" for place, name in enumerate(image)]
    ledger = dialect_with(History.EXECUTION).parse_ledger({"name": name} for name in ran)
    assert ledger.is_complete_for(dialect_with(History.EXECUTION).declare(image)) is (missing >= known)


VERSIONS = [f"{number:03}_{name}" for number, name in enumerate("abcdefghij", 95)]


@given(st.sets(st.sampled_from(VERSIONS)), st.sets(st.sampled_from(VERSIONS), min_size=1))
def test_versions_are_found_by_file_names(applied: set[str], known: set[str]) -> None:
    """The ledger records numbers, 100 after 99, and contains exactly the files that have them."""
    dialect = dialect_with(History.NAMES, Versioning.LEADING_NUMBER)
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
def test_a_number_includes_all_lower_ones(top: int, state: State, asked: int) -> None:
    """A dirty number is not applied, and does not concern images that expect a lower one."""
    ledger = Ledger.of([Record(str(top), state)], History.NUMBER, Versioning.LEADING_NUMBER)
    clean = state is State.APPLIED
    name = f"{asked:06}_name"
    assert ledger.contains(name) is (asked < top or (clean and asked == top))
    assert ledger.is_complete_for(Revision(name, asked + 1, "0" * 12)) is ledger.contains(name)
    assert (ledger.dirty_for(name) is None) is (clean or asked < top)
    if ledger.contains(name):
        assert ledger.position_for(name) is (Position.AT_HEAD if asked == top else Position.AHEAD)
    else:
        assert ledger.position_for(name) is Position.BEHIND
    assert not Ledger((), History.NUMBER, Versioning.LEADING_NUMBER).contains(name)


def heads(*names: str) -> Ledger:
    return dialect_with(History.HEADS).parse_ledger({"name": name} for name in names)


def test_former_heads_are_applied() -> None:
    """A new head is newer than all former ones; a former head that comes back drops those that came after it."""
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


def test_a_branch_keeps_the_former_heads_of_the_other() -> None:
    """While one of two heads advances, its former heads stay applied; a downgrade of it removes them."""
    ledger = heads("a")
    for branches in (("b", "x"), ("b", "y"), ("b", "z")):
        ledger = heads(*branches).with_former_heads(ledger.applied)
    assert set(ledger.applied) == {"a", "x", "y", "b", "z"}
    assert ledger.position_for("b") is ledger.position_for("z") is Position.AT_HEAD
    ledger = heads("b", "x").with_former_heads(ledger.applied)
    assert not ledger.contains("z")


def test_a_tool_with_a_history_has_no_former_heads() -> None:
    """A migration that the table no longer records was undone, so it is not applied."""
    for history in set(History) - {History.HEADS}:
        ledger = dialect_with(history).parse_ledger([{"name": "b"}])
        assert ledger.with_former_heads(["a", "b", "c"]) is ledger


@pytest.mark.parametrize("history", [History.NAMES, History.EXECUTION])
def test_only_a_dirty_revision_at_or_below_its_own_concerns_an_image(history: History) -> None:
    """The ledger's own order decides what is below, whatever the names."""
    order = ["r3", "r1", "r2"] if history is History.EXECUTION else ["r1", "r2", "r3"]
    for place, broken in enumerate(order):
        records = [Record(name, State.FAILED if name == broken else State.APPLIED) for name in order]
        ledger = Ledger.of(records, history)
        for other, name in enumerate(order):
            assert (ledger.dirty_for(name) is None) is (other < place)
    assert Ledger.of([Record("a", State.RUNNING)]).dirty_for("nosuch") is not None


@given(some, st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
def test_everything_below_a_baseline_is_applied(applied: list[str], baseline: str, known: list[str]) -> None:
    """Older revisions count as applied, however many of them an image knows; newer ones must be recorded."""
    records = [Record(name, State.APPLIED, baseline=name == baseline) for name in sorted({*applied, baseline})]
    ledger = Ledger.of([*records, Record("r99", State.FAILED)])
    for name in NAMES:
        assert ledger.contains(name) is (name <= baseline or name in applied)
        if ledger.contains(name):
            assert ledger.dirty_for(name) is None
            assert ledger.is_ahead_of(name) is (name != ledger.head)
    expected = declare(sorted(known))
    assert ledger.is_complete_for(expected) is ledger.contains(expected.name)
