from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from migrations.core.contract import needed
from migrations.core.drift import RevisionStatus, compare
from migrations.core.ledger import DOWN_ERROR, Ledger, Record, State
from migrations.core.migration import Migration, SectionBody
from migrations.core.plan import Obstacle, Refusal, UpPlan, describe_dirty, plan_up

NAMES = [f"r{number:02}" for number in range(8)]
subsets = st.sets(st.sampled_from(NAMES)).map(sorted)
states = st.sampled_from(State)


def migration(name: str) -> Migration:
    return Migration(name, Path(f"{name}.sql"), f"sum of {name}", SectionBody("select 1"))


def record(name: str, state: State = State.APPLIED, batch: int | None = None) -> Record:
    return Record(name, state, f"sum of {name}", batch)


def contract(name: str, compatible_from: str) -> Migration:
    return replace(migration(name), compatible_from=compatible_from)


def of(names: list[str]) -> list[Migration]:
    return [migration(name) for name in names]


def obstacles(decision: UpPlan | Refusal) -> list[Obstacle]:
    assert isinstance(decision, Refusal)
    return [obstacle for obstacle, _ in decision.obstacles]


@given(files=subsets, rows=st.dictionaries(st.sampled_from(NAMES), states), target=st.none() | st.sampled_from(NAMES))
def test_a_plan_is_what_is_pending_in_order(files: list[str], rows: dict[str, State], target: str | None) -> None:
    """Compared with a model: it is refused for an unknown target, a dirty ledger or a late merge."""
    applied = sorted(name for name, state in rows.items() if state is State.APPLIED)
    wanted = [name for name in files if name not in applied and (target is None or name <= target)]
    dirty = any(state is not State.APPLIED for state in rows.values())
    late = bool(applied) and any(name < applied[-1] for name in wanted)

    decision = plan_up(of(files), Ledger.of(record(name, rows[name]) for name in sorted(rows)), target)

    if (target is not None and target not in files) or (wanted and dirty) or late:
        assert isinstance(decision, Refusal)
        only_dirty = wanted and dirty and (target is None or target in files)
        assert decision.only_dirty is bool(only_dirty)
    else:
        assert isinstance(decision, UpPlan)
        assert [step.revision for step in decision.steps] == wanted
        assert not set(wanted) & set(applied)
        unknown = [name for name in applied if name not in files]
        assert sorted(decision.ahead + decision.missing) == unknown
        assert all(name > max(files, default="") for name in decision.ahead)


@given(files=subsets, target=st.none() | st.sampled_from(NAMES))
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(files: list[str], target: str | None) -> None:
    """The same plan again has no steps; a plan without a target continues where the first one ended."""
    first = plan_up(of(files), Ledger(), target if target in files else None)
    assert isinstance(first, UpPlan)
    ledger = Ledger.of(record(step.revision, batch=first.batch) for step in first.steps)
    again = plan_up(of(files), ledger, target if target in files else None)
    rest = plan_up(of(files), ledger)
    assert isinstance(again, UpPlan)
    assert isinstance(rest, UpPlan)
    assert again.steps == ()
    assert [step.revision for step in first.steps + rest.steps] == files
    assert rest.batch == (first.batch + 1 if first.steps else 1)


@given(files=subsets, newer=subsets)
def test_an_older_image_has_nothing_to_do_even_when_a_newer_migration_failed(
    files: list[str], newer: list[str]
) -> None:
    """A directory whose migrations are all applied needs nothing, whatever else is in the ledger."""
    rows = dict.fromkeys(newer, State.FAILED) | dict.fromkeys(files, State.APPLIED)
    decision = plan_up(of(files), Ledger.of(record(name, rows[name]) for name in sorted(rows)))
    assert isinstance(decision, UpPlan)
    assert decision.steps == ()


def test_an_edited_file_is_an_obstacle_even_with_nothing_pending() -> None:
    """The message names the file and both checksums; a record without a checksum is not compared."""
    decision = plan_up(of(["a"]), Ledger.of([replace(record("a"), checksum="another")]))
    assert obstacles(decision) == [Obstacle.CHANGED]
    assert isinstance(decision, Refusal)
    assert not decision.only_dirty
    (text,) = (text for _, text in decision.obstacles)
    assert all(word in text for word in ("a.sql", "another", "sum of a"))
    assert isinstance(plan_up(of(["a"]), Ledger.of([replace(record("a"), checksum=None)])), UpPlan)


def test_every_obstacle_is_reported_at_once() -> None:
    """An edited file and two late merges are three obstacles; an unknown target is one."""
    ledger = Ledger.of([record("c"), replace(record("d"), checksum="another")])
    decision = plan_up(of(["a", "b", "c", "d"]), ledger, None)
    assert obstacles(decision) == [Obstacle.CHANGED, Obstacle.OUT_OF_ORDER, Obstacle.OUT_OF_ORDER]
    assert obstacles(plan_up(of(["a"]), Ledger(), "z")) == [Obstacle.TARGET]


def test_a_dirty_migration_is_reported_with_its_error_and_the_remedy() -> None:
    """A failed migration shows its error, a killed one that it never ended."""
    failed = plan_up(of(["a"]), Ledger.of([replace(record("a", State.FAILED), error="no such table")]))
    killed = plan_up(of(["a"]), Ledger.of([record("a", State.RUNNING)]))
    for decision, words in ((failed, "no such table"), (killed, "never ended")):
        assert isinstance(decision, Refusal)
        assert decision.only_dirty
        assert words in decision.obstacles[0][1]
        assert "migrate resolve a --rolled-back" in decision.obstacles[0][1]


def test_the_remedy_is_named_once() -> None:
    """It is not repeated after an error that names it; a killed `down` is described as one."""
    error = "x.sql:2: no. Settle it: `ledgergate migrate resolve a --rolled-back` or `--applied`"
    assert describe_dirty(replace(record("a", State.FAILED), error=error)) == f"a failed: {error}"
    killed = describe_dirty(replace(record("a", State.RUNNING), error=DOWN_ERROR))
    assert killed.startswith("a began to be undone and never ended")
    assert killed.count("resolve a --applied") == killed.count("resolve a --rolled-back") == 1


def test_the_status_of_each_revision() -> None:
    """Files and ledger are compared in the order of names."""
    ledger = Ledger.of(
        [
            record("a"),
            replace(record("b"), checksum="another"),
            record("c"),
            record("e", State.FAILED),
            record("f", State.RUNNING),
        ]
    )
    assert [(row.revision, row.status) for row in compare(of(["a", "b", "d", "e", "f"]), ledger)] == [
        ("a", RevisionStatus.APPLIED),
        ("b", RevisionStatus.CHANGED),
        ("c", RevisionStatus.MISSING),
        ("d", RevisionStatus.PENDING),
        ("e", RevisionStatus.FAILED),
        ("f", RevisionStatus.RUNNING),
    ]


@st.composite
def directories(draw: st.DrawFn) -> list[Migration]:
    """Migrations of which some are contracts, each compatible from itself or an older one."""
    names = draw(subsets)
    contracts = [draw(st.none() | st.sampled_from(names[: index + 1])) for index in range(len(names))]
    return [replace(migration(name), compatible_from=oldest) for name, oldest in zip(names, contracts, strict=True)]


@given(directory=directories(), count=st.integers(0, 8))
def test_an_expand_phase_applies_what_an_image_needs(directory: list[Migration], count: int) -> None:
    """It names the rest too; a plan without a phase continues where it ended, and both together are the directory."""
    ledger = Ledger.of(record(each.revision) for each in directory[:count])
    expand = plan_up(directory, ledger, expand_only=True)
    assert isinstance(expand, UpPlan)
    assert [*directory[:count], *expand.steps, *expand.left] == directory
    assert [*directory[:count], *expand.steps] == directory[: max(count, len(needed(directory)))]
    after = Ledger.of(record(each.revision) for each in [*directory[:count], *expand.steps])
    again, rest = plan_up(directory, after, expand_only=True), plan_up(directory, after)
    assert isinstance(again, UpPlan)
    assert isinstance(rest, UpPlan)
    assert (again.steps, again.left) == ((), expand.left)
    assert (rest.steps, rest.left) == (expand.left, ())


@given(files=subsets, rows=st.dictionaries(st.sampled_from(NAMES), states), target=st.none() | st.sampled_from(NAMES))
def test_without_contracts_an_expand_phase_is_everything(
    files: list[str], rows: dict[str, State], target: str | None
) -> None:
    """The decision is the same, refusals included."""
    ledger = Ledger.of(record(name, rows[name]) for name in sorted(rows))
    assert plan_up(of(files), ledger, target, expand_only=True) == plan_up(of(files), ledger, target)


def test_a_target_beyond_the_expand_phase_is_an_obstacle() -> None:
    """A target within it is none, and neither is a contract that a newer migration follows."""
    directory = [migration("a"), migration("b"), contract("c", "b"), migration("d"), contract("e", "d")]
    assert obstacles(plan_up(directory, Ledger(), "e", expand_only=True)) == [Obstacle.TARGET]
    assert obstacles(plan_up(directory, Ledger(), "z", expand_only=True)) == [Obstacle.TARGET]
    decision = plan_up(directory, Ledger(), "c", expand_only=True)
    assert isinstance(decision, UpPlan)
    assert [step.revision for step in decision.steps] == ["a", "b", "c"]
    assert [each.revision for each in decision.left] == ["e"]
