"""What to do next about a contract migration under one gate. Pure: the controller carries it out.

The order of the steps is what keeps an older pod from starting beside the migrator:

1. ``contractWaiting`` is written. Once admission has seen it, an older pod is held, and only the controller can release
   it. The controller still releases older pods.
2. No living pod expects less, and admission has had `SETTLE_SECONDS` to see the announcement.
3. ``contracting`` begins: in the controller's memory at once, so that it no longer releases older pods, and in the
   gate's status.
4. Once that is written, the pods are listed anew, from the API server's storage. An older one, also one whose release
   is on its way, ends the attempt.
5. The migrator is released.
6. ``contracting`` ends when the ledger, as the gate's status shows it, has the migration; or when the migrator has
   ended, and the ledger, read since then, does not have it.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from migrations.core.contract import Contract
from webhook.core.contract_state import ContractStep, ContractWaiting
from webhook.core.living import LivingPods

SETTLE_SECONDS = 1.0
"""From the announcement to the earliest release. A watch delivers a status in milliseconds; the rest of the time is for
pods that a webhook has admitted and the API server has not stored yet. A rollout takes longer, so this delays none."""


class NextStep(StrEnum):
    """The next step."""

    NOTHING = "nothing"
    """Until something changes."""
    SETTLE = "settle"
    """Wait until `SETTLE_SECONDS` have passed since the announcement."""
    ANNOUNCE = "announce"
    """Write who waits, and for which pods."""
    BEGIN = "begin"
    """Shut older pods out, and write it."""
    CONFIRM = "confirm"
    """List the pods anew; then `confirmed`."""
    TAKE_BACK = "take back"
    """Let older pods in again, or leave them to the ledger."""
    WITHDRAW = "withdraw"
    """Withdraw the announcement: nothing waits."""


class MigratorState(StrEnum):
    """How far the migrator in ``contracting`` has come."""

    HELD = "held"
    RUNNING = "running"
    OVER = "over"
    """It has ended, or is gone."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A held migrator, and the pods that it would break.

    Args:
        contracts: what it brings and the ledger lacks, oldest first; at least one.
        living: the pods, as the watch shows them.
    """

    step: ContractStep
    contracts: tuple[Contract, ...]
    living: LivingPods = field(default_factory=LivingPods)


@dataclass(frozen=True, slots=True)
class ContractState:
    """Where a gate is in the order of steps.

    Args:
        waiting: the announcement that was written, or is to be.
        announced_at: since when it is in the gate's status, in seconds of the monotonic clock; None where it is not.
        contracting: the migrator that was released, or is about to be.
        written: whether ``contracting`` is in the gate's status.
        cleared: uid of the migrator that may go; empty where none may.
        ended_at: when it was first seen to have ended; None where it was not.
    """

    waiting: ContractWaiting | None = None
    announced_at: float | None = None
    contracting: ContractStep | None = None
    written: bool = False
    cleared: str = ""
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ContractFacts:
    """What is seen now.

    Args:
        candidate: the first migrator that is held; None where none is.
        migrator: the state of the migrator in ``contracting``; without meaning where there is none.
        applied: the ledger, as last read, has its contract migration.
        recorded: the gate's status, by which admission decides, has it too.
        read_at: when the ledger was last read without a fault (aware); None where it cannot be read now.
        monotonic: seconds.
    """

    monotonic: float
    candidate: Candidate | None = None
    migrator: MigratorState = MigratorState.OVER
    applied: bool = False
    recorded: bool = False
    read_at: datetime | None = None


def next_step(state: ContractState, facts: ContractFacts) -> NextStep:
    """Return the next step."""
    if state.contracting is not None:
        return _while_contracting(state, facts)
    if facts.candidate is None:
        return NextStep.NOTHING if state.waiting is None else NextStep.WITHDRAW
    announced = state.waiting is not None and state.waiting.step == facts.candidate.step
    if not announced or state.announced_at is None:
        return NextStep.ANNOUNCE
    if facts.candidate.living.needed:
        changed = state.waiting is None or state.waiting.groups != facts.candidate.living.groups
        return NextStep.ANNOUNCE if changed else NextStep.NOTHING
    return NextStep.BEGIN if facts.monotonic - state.announced_at >= SETTLE_SECONDS else NextStep.SETTLE


def _while_contracting(state: ContractState, facts: ContractFacts) -> NextStep:
    if not state.written:
        return NextStep.BEGIN
    if facts.applied:
        # Until admission sees the barrier in the recorded ledger, `contracting` alone keeps older pods out.
        return NextStep.TAKE_BACK if facts.recorded else NextStep.NOTHING
    if facts.migrator is MigratorState.OVER:
        read_since = None not in {state.ended_at, facts.read_at} and facts.read_at > state.ended_at  # type: ignore[operator]
        return NextStep.TAKE_BACK if read_since else NextStep.NOTHING
    if facts.migrator is MigratorState.HELD and not state.cleared:
        return NextStep.CONFIRM
    return NextStep.NOTHING


def noticed_end(state: ContractState, migrator: MigratorState, now: datetime) -> ContractState:
    """Return the state with the time at which the migrator was first seen to have ended."""
    if state.contracting is None or migrator is not MigratorState.OVER:
        return replace(state, ended_at=None)
    return state if state.ended_at is not None else replace(state, ended_at=now)


def announced(state: ContractState, candidate: Candidate) -> ContractState:
    """Return the state with a candidate's announcement, whose settle time begins when it is written."""
    same = state.waiting is not None and state.waiting.step == candidate.step
    waiting = ContractWaiting(candidate.step, candidate.living.groups)
    return replace(state, waiting=waiting, announced_at=state.announced_at if same else None)


def begun(step: ContractStep) -> ContractState:
    """Return the state from which on older pods are shut out. It replaces the announcement, in one write."""
    return ContractState(contracting=step)


def confirmed(state: ContractState, living: LivingPods) -> ContractState:
    """Return the state after the pods were listed anew.

    Args:
        living: counted from a list that began after ``contracting`` was written.

    Raises:
        ValueError: ``contracting`` was not written yet.
    """
    if state.contracting is None or not state.written:
        raise ValueError("the pods must be listed after status.contracting was written")
    if living.needed:
        return taken_back(state)
    return replace(state, cleared=state.contracting.uid)


def taken_back(state: ContractState) -> ContractState:
    """Return the state in which no migrator shuts pods out; a migrator that still waits is then announced anew."""
    return replace(state, contracting=None, written=False, cleared="", ended_at=None)
