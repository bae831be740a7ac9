"""Decide: may this pod run against this ledger, under this policy?

The one place where that is decided; admission, release and readiness all ask here. Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from migrations.core.ledger import Ledger, Position
from migrations.core.revision import Revision
from migrations.core.snapshot import LedgerSnapshot
from webhook.api.objects import Pod
from webhook.core.gate import Action, Gate, Mode, Policy
from webhook.core.requirement import Requirement, declares, requirement

_SHOWN = 56
"""Characters of a revision in a message: three of them, a sentence and a gate's name are still read at a glance."""

_GATE_SHOWN = 40


class Reason(StrEnum):
    """Why: at once the verdict's name, a metric label, a log field and a condition's reason."""

    MATCHES = "Matches"
    AHEAD = "Ahead"
    BEHIND = "Behind"
    INCOMPLETE = "Incomplete"
    DIRTY = "Dirty"
    INCOMPATIBLE = "Incompatible"
    UNDECLARED = "Undeclared"
    INVALID = "Invalid"
    UNREACHABLE = "Unreachable"
    SELF_MIGRATING = "SelfMigrating"
    BYPASSED = "Bypassed"
    UNSELECTED = "Unselected"  # of a pod that no gate selects; never of one gate


class Outcome(IntEnum):
    """What is done with the pod, the strictest last: of several gates the strictest counts."""

    ADMIT = 0
    WARN = 1
    HOLD = 2
    DENY = 3

    @property
    def good(self) -> bool:
        """Whether the pod may run."""
        return self <= Outcome.WARN


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate's answer about one pod.

    Args:
        message: one sentence without times, uids or pod names, so that the same situation is the same Event.
    """

    reason: Reason
    outcome: Outcome
    message: str
    gate: str = ""


_OUTCOME = {
    Action.ALLOW: Outcome.ADMIT,
    Action.WARN: Outcome.WARN,
    Action.HOLD: Outcome.HOLD,
    Action.DENY: Outcome.DENY,
}
_APPLIED = {Reason.MATCHES, Reason.AHEAD, Reason.INCOMPATIBLE}
"""The ledger has the expected revision, complete, or is past it; that alone does not let the pod run."""

_NEXT = {
    Outcome.ADMIT: "the pod starts",
    Outcome.WARN: "the pod starts all the same",
    Outcome.HOLD: "the pod is held until it is",
    Outcome.DENY: "the pod is denied until it is",
}


def decide(gate: str, required: Requirement, snapshot: LedgerSnapshot, policy: Policy, now: datetime) -> Verdict:
    """Decide about one pod under one gate.

    Args:
        gate: the gate's name, for the message.
        required: what the pod requires.
        reading: what is known of the ledger: the last good reading, and why it cannot be read now, if so.
        policy: what the gate wants done.
        now: aware; only a bypass depends on it.
    """
    reason, outcome, message = _decide(_shown(gate, _GATE_SHOWN), required, snapshot, policy, now)
    if policy.mode is Mode.AUDIT and not outcome.good:
        outcome, message = Outcome.WARN, f"audit only: {message}"
    return Verdict(reason, outcome, message, gate)


def strictest(verdicts: Iterable[Verdict], *, declares: bool = False) -> Verdict:
    """Combine the verdicts of every gate that selects a pod: it needs each of them.

    The same verdicts in another order give the same answer.

    Args:
        declares: the pod declares a revision. Where no gate selects it, its gate may be on its way (Helm creates custom
            resources after Deployments), so it is held, for the short while that the controller allows.
    """
    ranked = sorted(verdicts, key=lambda verdict: (-verdict.outcome, verdict.gate))
    if ranked:
        return ranked[0]
    if declares:
        text = "the pod declares a revision, but no LedgerGate selects it: it starts in some seconds if none comes"
        return Verdict(Reason.UNSELECTED, Outcome.HOLD, text)
    return Verdict(Reason.UNSELECTED, Outcome.ADMIT, "no LedgerGate selects this pod")


_Decision = tuple[Reason, Outcome, str]


def _decide(gate: str, required: Requirement, snapshot: LedgerSnapshot, policy: Policy, now: datetime) -> _Decision:
    if policy.bypass_until is not None and now < policy.bypass_until:
        return Reason.BYPASSED, Outcome.WARN, f"gate {gate} is bypassed: the pod starts without a look at the ledger"
    if required.migrates:
        return Reason.SELF_MIGRATING, Outcome.ADMIT, f"the pod brings the migrations of gate {gate} itself"
    if required.invalid is not None:
        return Reason.INVALID, Outcome.DENY, _invalid(required.invalid)
    if required.expected is None:
        outcome = _OUTCOME[policy.on_undeclared]
        return Reason.UNDECLARED, outcome, _undeclared(gate, outcome)
    if snapshot.ledger is None or snapshot.fault is not None:
        return _unreachable(gate, required.expected, required.ancestors, snapshot, policy)
    return _compare(gate, required.expected, required.ancestors, snapshot.ledger, policy)


def _compare(
    gate: str, expected: Revision, ancestors: Collection[str] | None, ledger: Ledger, policy: Policy
) -> _Decision:
    behind = _OUTCOME[policy.on_behind]
    name, head = _shown(expected.name), _shown(ledger.head or "its beginning (nothing is applied)")
    position, dirty = ledger.position_for(expected.name, ancestors), ledger.dirty_for(expected.name)
    if dirty is not None:
        then = f"{_shown(dirty.revision)} is recorded as {dirty.state}"
        return Reason.DIRTY, behind, f"ledger {gate}: {then}; the pod expects {name}: {_NEXT[behind]} settled"
    if position in {Position.BEHIND, Position.UNKNOWN}:
        untold = " (which is newer cannot be told)" if position is Position.UNKNOWN else ""
        text = f"ledger {gate} is at {head}, the pod expects {name}{untold}: {_NEXT[behind]} applied"
        return Reason.BEHIND, behind, text
    if position is not Position.PRESUMED_AHEAD and not ledger.is_complete_for(expected):
        text = f"ledger {gate} has {name} but lacks one that the pod's image knows below it: {_NEXT[behind]} applied"
        return Reason.INCOMPLETE, behind, text
    barrier = ledger.incompatible_contract_for(expected.name)
    if barrier is not None:
        text = (
            f"contract migration {_shown(barrier.revision)} is applied to ledger {gate}: images older than "
            f"{_shown(barrier.compatible_from or '')} cannot run, and the pod expects {name}"
        )
        return Reason.INCOMPATIBLE, Outcome.DENY, text
    if position is Position.AT_HEAD:
        return Reason.MATCHES, Outcome.ADMIT, f"ledger {gate} is at {name}, as the pod expects"
    ahead = _OUTCOME[policy.on_ahead]
    text = f"ledger {gate} is at {head}, ahead of {name}, which the pod expects"
    return Reason.AHEAD, ahead, f"{text}: {_ahead_next(ahead)}"


def _unreachable(
    gate: str, expected: Revision, ancestors: Collection[str] | None, snapshot: LedgerSnapshot, policy: Policy
) -> _Decision:
    text, name = f"ledger {gate} cannot be read now", _shown(expected.name)
    if policy.on_unreachable is not Action.LAST_KNOWN:
        outcome = _OUTCOME[policy.on_unreachable]
        return Reason.UNREACHABLE, outcome, f"{text}: {_unreachable_next(outcome)}"
    if snapshot.ledger is not None:
        # A ledger that was never read here comes from the gate's status, which keeps the newest revisions only: it can
        # tell what was applied, but not whether something older is missing.
        asked = expected if snapshot.observed_at is not None else Revision(expected.name)
        reason, known, _ = _compare(gate, asked, ancestors, snapshot.ledger, policy)
        if reason in _APPLIED and known.good:
            then = "had" if snapshot.ledger.contains(expected.name) else "was ahead of"
            return Reason.UNREACHABLE, Outcome.ADMIT, f"{text}; when last read it {then} {name}: the pod starts"
        if reason in _APPLIED:
            then = _unreachable_next(Outcome.HOLD)
            return Reason.UNREACHABLE, Outcome.HOLD, f"{text}; when last read it was no ledger for {name}: {then}"
    # A gate that only warns about a ledger that is behind must not hold for one that cannot be read.
    outcome = Outcome.WARN if policy.on_behind is Action.WARN else Outcome.HOLD
    return (
        Reason.UNREACHABLE,
        outcome,
        f"{text} and was not seen to have {name}: {_unreachable_next(outcome)}",
    )


def _unreachable_next(outcome: Outcome) -> str:
    return f"{_NEXT[outcome]}{'' if outcome.good else ' readable'}"


def _ahead_next(outcome: Outcome) -> str:
    return "onAhead denies it" if outcome is Outcome.DENY else _NEXT[outcome]


def _invalid(declared: str) -> str:
    return (
        f"{_shown(repr(declared), 80)} is no revision: expected NAME or NAME+COUNT.DIGEST, as `ledgergate migrate "
        "revision` prints it; correct the pod's annotation"
    )


def _shown(text: str, limit: int = _SHOWN) -> str:
    """Cut a name to what a message can hold; a ledger may hold names that no revision could have."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"


def _undeclared(gate: str, outcome: Outcome) -> str:
    text = f"the pod declares no revision for gate {gate} (annotation ledgergate.dev/revision)"
    following = {Outcome.HOLD: "it is held until the gate allows it", Outcome.DENY: "it is denied"}
    return f"{text}: {following.get(outcome, _NEXT[outcome])}"


_OF_THE_LEDGER = {Reason.BEHIND, Reason.INCOMPLETE, Reason.DIRTY, Reason.INCOMPATIBLE, Reason.UNREACHABLE}


def judge(pod: Pod, gates: Iterable[tuple[Gate, LedgerSnapshot]], now: datetime) -> Verdict:
    """Decide about a pod under each of the gates that select it; the strictest verdict counts.

    Args:
        gates: those gates, each with what is known of its ledger.
        now: aware.
    """
    return combine(pod, judge_each(pod, gates, now))


def judge_each(pod: Pod, gates: Iterable[tuple[Gate, LedgerSnapshot]], now: datetime) -> tuple[Verdict, ...]:
    """Decide about a pod under each of the gates that select it, in their order; the arguments are those of judge."""
    return tuple(
        decide(gate.name, requirement(pod, gate.name, gate.expect_env), snapshot, gate.policy, now)
        for gate, snapshot in gates
    )


def combine(pod: Pod, verdicts: Iterable[Verdict]) -> Verdict:
    """Make one verdict of those of all the gates that select a pod."""
    return strictest(verdicts, declares=declares(pod))


def may_be_stale(verdict: Verdict) -> bool:
    """Tell whether a newer reading of the ledger could give a better verdict.

    A pod that is let go because the ledger is ahead is none: looking again would cost every old pod a query.
    """
    if verdict.reason is Reason.AHEAD:
        return not verdict.outcome.good
    return verdict.outcome is not Outcome.ADMIT and verdict.reason in _OF_THE_LEDGER
