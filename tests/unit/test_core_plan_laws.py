"""Properties of `up`, `down` and `baseline` that hold for any files, any ledger and any sequence of commands."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from migrations.core.baseline_plan import BaselinePlan, plan_baseline
from migrations.core.down_plan import DownPlan, plan_down
from migrations.core.drift import DriftKind, verify
from migrations.core.ledger import Ledger, Record, State
from migrations.core.migration import Migration, SectionBody
from migrations.core.plan import Obstacle, Refusal, UpPlan, plan_up

NAMES = [f"r{number:02}" for number in range(8)]
names = st.sampled_from(NAMES)
subsets = st.sets(names).map(sorted)
batches = st.dictionaries(names, st.integers(0, 4))
targets = st.none() | names
counts = st.none() | st.integers(1, 9)


def migration(name: str, *, undoable: bool = True) -> Migration:
    return Migration(
        name,
        Path(f"{name}.sql"),
        f"sum of {name}",
        SectionBody("select 1"),
        SectionBody("select 2") if undoable else None,
    )


def of(chosen: list[str]) -> list[Migration]:
    return [migration(name) for name in chosen]


def ledger(rows: dict[str, int]) -> Ledger:
    return Ledger.of(Record(name, State.APPLIED, f"sum of {name}", rows[name]) for name in sorted(rows))


def applied(steps: UpPlan) -> dict[str, int]:
    return {step.revision: steps.batch for step in steps.steps}


@given(files=subsets, rows=batches, target=targets)
def test_out_of_order_applies_everything_that_is_pending(
    files: list[str], rows: dict[str, int], target: str | None
) -> None:
    """With `out_of_order` a plan is refused only for an unknown target."""
    decision = plan_up(of(files), ledger(rows), target, out_of_order=True)
    if target is not None and target not in files:
        assert isinstance(decision, Refusal)
    else:
        assert isinstance(decision, UpPlan)
        wanted = [name for name in files if name not in rows and (target is None or name <= target)]
        assert [step.revision for step in decision.steps] == wanted
        assert decision.batch > max(rows.values(), default=0)


@given(files=subsets, rows=batches, target=targets)
def test_down_after_up_restores_the_ledger(files: list[str], rows: dict[str, int], target: str | None) -> None:
    """The next `down` undoes what `up` applied, in the opposite order, and the ledger is as it was before."""
    everything = of(NAMES)
    before = ledger(rows)
    up = plan_up(of(files), before, target if target in files else None, out_of_order=True)
    assert isinstance(up, UpPlan)
    after = ledger(rows | applied(up))
    down = plan_down(everything, after)
    assert isinstance(down, DownPlan)
    if up.steps:
        undone = [step.revision for step, _ in down.steps]
        assert undone == [step.revision for step in reversed(up.steps)]
        assert ledger({name: batch for name, batch in (rows | applied(up)).items() if name not in undone}) == before


@given(rows=batches, steps=counts, target=targets, known=subsets, undoable=subsets)
def test_down_undoes_everything_requested_or_nothing(
    rows: dict[str, int], steps: int | None, target: str | None, known: list[str], undoable: list[str]
) -> None:
    """Compared with a model: newest first; refused if the target is not applied, or a file or section is missing."""
    if steps is not None:
        target = None
    newest_first = sorted(rows, reverse=True)
    last = max(rows.values(), default=0)
    if target is not None:
        wanted = [name for name in newest_first if name > target]
    elif steps is not None:
        wanted = newest_first[:steps]
    else:
        wanted = [name for name in newest_first if last and rows[name] == last]
    files = [migration(name, undoable=name in undoable) for name in known]

    decision = plan_down(files, ledger(rows), steps=steps, target=target)

    if target is not None and target not in rows:
        assert isinstance(decision, Refusal)
        assert [obstacle for obstacle, _ in decision.obstacles] == [Obstacle.TARGET]
    elif not set(wanted) <= set(known) & set(undoable):
        assert isinstance(decision, Refusal)
        assert [obstacle for obstacle, _ in decision.obstacles] == [
            Obstacle.NO_DOWN if name in known else Obstacle.MISSING
            for name in wanted
            if name not in known or name not in undoable
        ]
    else:
        assert isinstance(decision, DownPlan)
        assert [step.revision for step, _ in decision.steps] == wanted


@given(rows=st.dictionaries(names, st.sampled_from(State)), steps=counts)
def test_down_is_refused_while_the_ledger_is_dirty(rows: dict[str, State], steps: int | None) -> None:
    """A failed or running migration has to be resolved first."""
    recorded = Ledger.of(Record(name, rows[name], f"sum of {name}", 1) for name in sorted(rows))
    decision = plan_down(of(NAMES), recorded, steps=steps)
    assert isinstance(decision, Refusal) is any(state is not State.APPLIED for state in rows.values())
    if isinstance(decision, Refusal):
        assert decision.only_dirty


@given(files=subsets, rows=batches, target=targets)
def test_a_baseline_records_what_the_ledger_lacks(files: list[str], rows: dict[str, int], target: str | None) -> None:
    """It records every file up to the target; a ledger in use needs a target; a second baseline has nothing to do."""
    decision = plan_baseline(of(files), ledger(rows), target)
    pending = [name for name in files if name not in rows and (target is None or name <= target)]
    if (target is not None and target not in files) or (target is None and rows and pending):
        assert isinstance(decision, Refusal)
    else:
        assert isinstance(decision, BaselinePlan)
        assert [step.revision for step in decision.steps] == pending
        after = ledger(rows | dict.fromkeys(pending, 0))
        assert plan_baseline(of(files), after, target) == BaselinePlan(())
        undo = plan_down(of(NAMES), after)
        assert isinstance(undo, DownPlan)
        assert not {step.revision for step, _ in undo.steps} & set(pending)


commands = st.one_of(
    st.tuples(st.just("up"), subsets, targets),
    st.tuples(st.just("down"), st.just(NAMES), counts),
    st.tuples(st.just("baseline"), subsets, targets),
)


@given(st.lists(commands, max_size=12))
def test_no_sequence_of_commands_runs_a_revision_twice(sequence: list[tuple[str, list[str], object]]) -> None:
    """What a command applies is not in the ledger, what it undoes is, and each revision occurs once in a plan."""
    rows: dict[str, int] = {}
    for command, files, argument in sequence:
        if command == "down":
            undo = plan_down(of(files), ledger(rows), steps=argument if isinstance(argument, int) else None)
            assert isinstance(undo, DownPlan)
            for step, _ in undo.steps:
                del rows[step.revision]
            continue
        target = argument if isinstance(argument, str) else None
        decision = (
            plan_up(of(files), ledger(rows), target, out_of_order=True)
            if command == "up"
            else plan_baseline(of(files), ledger(rows), target)
        )
        if isinstance(decision, Refusal):
            continue
        for step in decision.steps:
            assert step.revision not in rows
            rows[step.revision] = decision.batch if isinstance(decision, UpPlan) else 0


@given(files=subsets, rows=batches)
def test_verify_finds_a_gap_exactly_where_up_refuses(files: list[str], rows: dict[str, int]) -> None:
    """`up` is refused exactly for the ledgers in which `verify` finds a gap."""
    verified = verify(of(files), ledger(rows))
    decision = plan_up(of(files), ledger(rows))
    gaps = [drift.revision for drift in verified.drifts if drift.kind is DriftKind.GAP]
    assert bool(gaps) is isinstance(decision, Refusal)
    if isinstance(decision, UpPlan):
        assert tuple(step.revision for step in decision.steps) == verified.pending
        assert verified.ahead == decision.ahead
        missing = [drift.revision for drift in verified.drifts if drift.kind is DriftKind.MISSING]
        assert tuple(missing) == decision.missing
