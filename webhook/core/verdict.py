"""Decide whether a pod may run against one gate's ledger. Pure: no I/O, no clock."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum, StrEnum

from migrations.core.contract import Contract
from migrations.core.ledger import Ledger, Position
from migrations.core.revision import Revision
from migrations.core.snapshot import Fault, LedgerSnapshot
from webhook.core.contracting import barrier_for, boundary_of, is_shut_out, lacking
from webhook.core.gate import Action, Gate, Mode
from webhook.core.images import UnknownImage
from webhook.core.living import still_needed_text
from webhook.core.requirement import Requirement, SourceKind


class Reason(StrEnum):
    """The name of a verdict: also a metric label, a log field and a condition's reason."""

    MATCHES = "Matches"
    AHEAD = "Ahead"
    BEHIND = "Behind"
    INCOMPLETE = "Incomplete"
    DIRTY = "Dirty"
    INCOMPATIBLE = "Incompatible"
    UNDECLARED = "Undeclared"
    INVALID = "Invalid"
    UNREACHABLE = "Unreachable"
    UNDECIDED = "Undecided"
    """Only in admission, which knows the newest part of the ledger: the controller, which has all of it, decides."""
    SELF_MIGRATING = "SelfMigrating"
    STILL_NEEDED = "StillNeeded"
    """The migrator brings a contract migration that living pods cannot run with, or that were not counted yet."""
    RESOLVING = "Resolving"
    """The gate asks the pod's image, whose labels are being read from its registry."""
    UNRESOLVED = "Unresolved"
    """The gate asks the pod's image, whose labels cannot be read from its registry."""
    BYPASSED = "Bypassed"
    UNSELECTED = "Unselected"  # of a pod that no gate selects; never of one gate


class Outcome(IntEnum):
    """What happens to the pod. Ordered by strictness: of several gates' outcomes the highest counts."""

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
    """One gate's verdict on one pod.

    Args:
        message: one sentence without times, uids or pod names, so that the same situation makes the same Event.
        gate: the gate's name; empty where no gate selects the pod.
        audited: what the gate would do under Enforce; None unless Audit has made a warning of it.
    """

    reason: Reason
    outcome: Outcome
    message: str
    gate: str = ""
    audited: Outcome | None = None

    @property
    def enforced(self) -> Outcome:
        """What the gate does, or would do, under Enforce."""
        return self.outcome if self.audited is None else self.audited


def decide(gate: Gate, required: Requirement, snapshot: LedgerSnapshot, now: datetime) -> Verdict:
    """Decide whether a pod may run under one gate.

    Args:
        required: what the pod requires of the gate's ledger.
        snapshot: what is known of the ledger: as last read, and why it cannot be read now, if so.
        now: aware; only a bypass depends on it.
    """
    verdict = _decide_enforced(gate, required, snapshot, now)
    if gate.policy.mode is Mode.ENFORCE or verdict.outcome.good:
        return verdict
    return replace(verdict, outcome=Outcome.WARN, message=f"audit only: {verdict.message}", audited=verdict.outcome)


_OUTCOMES = {
    Action.ALLOW: Outcome.ADMIT,
    Action.WARN: Outcome.WARN,
    Action.HOLD: Outcome.HOLD,
    Action.DENY: Outcome.DENY,
}


def _decide_enforced(gate: Gate, required: Requirement, snapshot: LedgerSnapshot, now: datetime) -> Verdict:
    policy, shown = gate.policy, _shown_gate(gate)
    # The order counts: a bypass opens the gate to every pod, and a migrator must start although the ledger is behind.
    if policy.is_bypassed(now):
        text = f"gate {shown} is bypassed: the pod starts without a check of the ledger"
        return Verdict(Reason.BYPASSED, Outcome.WARN, text, gate.name)
    early = _refused_by_contract(gate, required, snapshot)
    if early is None and required.migrates:
        early = _decide_migrator(gate, required, snapshot)
    if early is not None:
        return early
    if required.problem:
        return Verdict(Reason.INVALID, Outcome.DENY, required.problem, gate.name)
    if required.unknown is not None:
        return _decide_unknown(gate, required, required.unknown, snapshot)
    return _decide_declared(gate, required, snapshot)


def _decide_declared(gate: Gate, required: Requirement, snapshot: LedgerSnapshot) -> Verdict:
    """Decide by what was declared, wherever it was found."""
    if required.invalid is not None:
        return Verdict(Reason.INVALID, Outcome.DENY, _invalid(required.invalid), gate.name)
    if required.expected is None:
        outcome = _OUTCOMES[gate.policy.on_undeclared]
        return Verdict(Reason.UNDECLARED, outcome, _undeclared(_shown_gate(gate), outcome, required.hint), gate.name)
    if snapshot.ledger is None or snapshot.fault is not None:
        verdict = _decide_unreachable(gate, required.expected, required.ancestors, snapshot)
    else:
        verdict = _compare(gate, required.expected, required.ancestors, snapshot.ledger)
    if required.source.kind is SourceKind.IMAGE and not verdict.outcome.good:
        return replace(verdict, message=f"{verdict.message} (by the label of {_shown_image(required.source.name)})")
    return verdict


def _decide_unknown(gate: Gate, required: Requirement, image: UnknownImage, snapshot: LedgerSnapshot) -> Verdict:
    """Hold a pod whose image is being read. Where it cannot be read, judge by the pod's own words, with a warning."""
    name = f"image {_shown_image(image.reference)}"
    if image.contradictory:
        return Verdict(Reason.INVALID, Outcome.DENY, f"{name}: {image.message}", gate.name)
    either_way = max(_OUTCOMES[gate.policy.on_behind], _OUTCOMES[gate.policy.on_ahead])
    outcome = Outcome.WARN if either_way.good else Outcome.HOLD  # a gate that only warns must not hold
    if not image.message:
        what_next = _NEXT[outcome] if outcome.good else "the pod is held until the controller has read it"
        return Verdict(
            Reason.RESOLVING,
            outcome,
            f"what {name} needs of ledger {_shown_gate(gate)} is not known yet: {what_next}",
            gate.name,
        )
    if required.expected is not None or required.invalid is not None:
        verdict = _refused_by_contract(gate, required, snapshot) or _decide_declared(gate, required, snapshot)
        text = f"{verdict.message}; {required.source} counts, since {name} cannot be read: {image.message}"
        if verdict.outcome.good:
            return Verdict(Reason.UNRESOLVED, Outcome.WARN, text, gate.name)
        return replace(verdict, message=text)
    text = f"{name} cannot be read: {image.message}: {_what_next(outcome, 'readable')}"
    return Verdict(Reason.UNRESOLVED, outcome, text, gate.name)


def _refused_by_contract(gate: Gate, required: Requirement, snapshot: LedgerSnapshot) -> Verdict | None:
    """Refuse a pod that a contract migration shuts out: a running one or, where the pod is a migrator, an applied one.

    An older image that carries its own migrator would find the barrier in the ledger and not run either. Any other pod
    is compared with the applied ones in `_compare_known`.
    """
    if required.expected is None:
        return None
    if is_shut_out(gate, required, snapshot.ledger) and gate.contracting is not None:
        running = Contract(gate.contracting.revision, gate.contracting.compatible_from)
        return _incompatible(gate, required, running, "is being applied")
    if not required.migrates or snapshot.ledger is None:
        return None
    if snapshot.fault is not None and gate.policy.on_unreachable is Action.ALLOW:
        return None  # Allow opens the gate without a fresh reading; under any other policy the last reading counts
    barrier = barrier_for(gate, required, snapshot.ledger)
    return None if barrier is None else _incompatible(gate, required, barrier)


def _incompatible(gate: Gate, required: Requirement, barrier: Contract, state: str = "is applied") -> Verdict:
    name = required.expected.name if required.expected else ""
    text = (
        f"contract migration {_shown(barrier.revision)} {state} to ledger {_shown_gate(gate)}: images older than "
        f"{_shown(barrier.compatible_from)} cannot run, and the pod expects {_shown(name)}"
    )
    return Verdict(Reason.INCOMPATIBLE, Outcome.DENY, text, gate.name)


def _decide_migrator(gate: Gate, required: Requirement, snapshot: LedgerSnapshot) -> Verdict:
    """Admit a migrator, unless it brings a contract migration that may break a living pod.

    A migrator whose own words list no contract migration waits while its image is being read: the image may list some.
    Where the image cannot be read, the migrator's own words count.
    """
    shown, action, ledger = _shown_gate(gate), gate.policy.on_contract, snapshot.ledger
    may_bring = not required.brings.contracts and not _OUTCOMES[action].good
    if may_bring and required.unknown is not None and not required.unknown.message:
        return _decide_unknown(gate, required, required.unknown, snapshot)
    if required.brings.invalid is not None:
        return Verdict(Reason.INVALID, Outcome.DENY, _invalid_contracts(required.brings.invalid), gate.name)
    contracts = lacking(gate, required, ledger)
    if not contracts or (gate.cleared and gate.cleared == required.brings.uid):
        text = f"the pod brings the migrations of gate {shown} itself"
        return Verdict(Reason.SELF_MIGRATING, Outcome.ADMIT, text, gate.name)
    outcome, waiting, boundary = _OUTCOMES[action], gate.contract_waiting, boundary_of(gate, contracts)
    own = waiting is not None and waiting.step.uid == required.brings.uid
    refused = outcome is Outcome.DENY and not own and _needed_before(gate, boundary)
    groups = waiting.groups if waiting is not None and (own or refused) else ()
    if outcome is Outcome.DENY and not refused:
        outcome = Outcome.HOLD
    what_next = _UNCOUNTED if action is Action.DENY and not groups else _WHILE_NEEDED[outcome]
    text = still_needed_text(shown, contracts[-1].revision, boundary, groups, _shown)
    return Verdict(Reason.STILL_NEEDED, outcome, f"{text}: {what_next}", gate.name)


def _needed_before(gate: Gate, boundary: str) -> bool:
    """Return whether living pods are known to expect less than a revision.

    Admission lists no pods. It knows those that the controller has counted for a migrator that is held. So under
    ``onContract: Deny`` the first one is held, and those that come beside it are refused.
    """
    waiting = gate.contract_waiting
    return waiting is not None and waiting.step.compatible_from == boundary and waiting.needed > 0


_WHILE_NEEDED = {
    Outcome.ADMIT: "the migrator starts, whichever pods run",
    Outcome.WARN: "the migrator starts all the same, whichever pods run",
    Outcome.HOLD: "the migrator is held while older pods run",
    Outcome.DENY: "onContract of the gate denies it while older pods run",
}
_UNCOUNTED = "the migrator is held until the controller has counted older pods"


def _compare(gate: Gate, expected: Revision, ancestors: frozenset[str] | None, ledger: Ledger) -> Verdict:
    """Compare an expected revision with a ledger that was read, as far as it is known."""
    if not ledger.can_tell(expected):
        why = f"has a long history, and its newest part does not tell whether {_shown(expected.name)} is in it"
        return _leave_to_controller(gate, expected, ledger, why)
    return _compare_known(gate, expected, ancestors, ledger)


def _compare_known(gate: Gate, expected: Revision, ancestors: frozenset[str] | None, ledger: Ledger) -> Verdict:
    behind, ahead = _OUTCOMES[gate.policy.on_behind], _OUTCOMES[gate.policy.on_ahead]
    shown, name = _shown_gate(gate), _shown(expected.name)
    position, dirty = ledger.position_for(expected.name, ancestors), ledger.dirty_for(expected.name)
    if dirty is not None:
        text = f"ledger {shown}: {_shown(dirty.revision)} is recorded as {dirty.state}; the pod expects {name}"
        return Verdict(Reason.DIRTY, behind, f"{text}: {_what_next(behind, 'settled')}", gate.name)
    if position is Position.BEHIND or position is Position.UNKNOWN:
        doubt = " (which of them is newer is not known)" if position is Position.UNKNOWN else ""
        text = f"ledger {shown} is at {_head(ledger)}, the pod expects {name}{doubt}"
        return Verdict(Reason.BEHIND, behind, f"{text}: {_what_next(behind, 'applied')}", gate.name)
    if position is not Position.PRESUMED_AHEAD and not ledger.is_complete_for(expected):
        text = f"ledger {shown} has {name} but lacks an older revision that the pod's image contains"
        return Verdict(Reason.INCOMPLETE, behind, f"{text}: {_what_next(behind, 'applied')}", gate.name)
    # Most ledgers have no contract migration; looking for one costs as much as the rest.
    contracts = gate.contracts or gate.former_contracts or ledger.strictest_contract is not None
    barrier = barrier_for(gate, Requirement(expected, ancestors=ancestors), ledger) if contracts else None
    if barrier is not None:
        return _incompatible(gate, Requirement(expected), barrier)
    if position is Position.AT_HEAD:
        return Verdict(Reason.MATCHES, Outcome.ADMIT, f"ledger {shown} is at {name}, as the pod expects", gate.name)
    what_next = "onAhead denies it" if ahead is Outcome.DENY else _NEXT[ahead]
    text = f"ledger {shown} is at {_head(ledger)}, ahead of {name}, which the pod expects: {what_next}"
    return Verdict(Reason.AHEAD, ahead, text, gate.name)


def _head(ledger: Ledger) -> str:
    return _shown(ledger.head or "its beginning (nothing is applied)")


def _leave_to_controller(gate: Gate, expected: Revision, ledger: Ledger | None, why: str) -> Verdict:
    """Hold a pod that cannot be judged by the gate's status. The controller releases it at once, if it may run.

    A gate whose policy lets the pod start, whether its revision is applied or not, does not hold it.
    """
    excluded = ledger is not None and barrier_for(gate, Requirement(expected), ledger) is not None
    either_way = max(_OUTCOMES[gate.policy.on_behind], _OUTCOMES[gate.policy.on_ahead])
    outcome = Outcome.HOLD if excluded or not either_way.good else Outcome.WARN
    what_next = _NEXT[outcome] if outcome.good else "the pod is held until the controller has decided"
    return Verdict(Reason.UNDECIDED, outcome, f"ledger {_shown_gate(gate)} {why}: {what_next}", gate.name)


_APPLIED = {Reason.MATCHES, Reason.AHEAD, Reason.INCOMPATIBLE}
"""The ledger has the expected revision, complete, or is past it; that alone does not let the pod run."""


def _decide_unreachable(
    gate: Gate, expected: Revision, ancestors: frozenset[str] | None, snapshot: LedgerSnapshot
) -> Verdict:
    """Follow ``onUnreachable``; under LastKnown, admit what the last snapshot satisfied and hold the rest."""
    policy, ledger, name = gate.policy, snapshot.ledger, _shown(expected.name)
    if snapshot.fault is Fault.PENDING:
        return _leave_to_controller(gate, expected, ledger, f"has not been read yet, the pod expects {name}")
    # A status of an older version shows what was applied, but not whether something older is missing.
    asked = expected if ledger is not None and ledger.can_tell(expected) else Revision(expected.name)
    last = None if ledger is None else _compare(gate, asked, ancestors, ledger)
    text = f"ledger {_shown_gate(gate)} cannot be read now"
    if policy.on_unreachable is not Action.LAST_KNOWN:
        outcome = _OUTCOMES[policy.on_unreachable]
    elif ledger is None or last is None or last.reason not in _APPLIED:
        # A gate that only warns about a ledger that is behind must not hold for one that cannot be read. But a status
        # that is cut short may leave out that the ledger is ahead, which another policy decides.
        undecided = last is not None and last.reason is Reason.UNDECIDED and not last.outcome.good
        outcome = Outcome.WARN if policy.on_behind is Action.WARN and not undecided else Outcome.HOLD
        text += f" and is not known to contain {name}"
    elif last.outcome.good:
        outcome = Outcome.ADMIT
        text += f"; when last read it {'had' if ledger.contains(expected.name) else 'was ahead of'} {name}"
    else:
        outcome = Outcome.HOLD
        text += f"; when last read it did not allow {name}"
    return Verdict(Reason.UNREACHABLE, outcome, f"{text}: {_what_next(outcome, 'readable')}", gate.name)


_NEXT = {
    Outcome.ADMIT: "the pod starts",
    Outcome.WARN: "the pod starts all the same",
    Outcome.HOLD: "the pod is held until it is",
    Outcome.DENY: "the pod is denied until it is",
}


def _what_next(outcome: Outcome, awaited: str) -> str:
    return _NEXT[outcome] if outcome.good else f"{_NEXT[outcome]} {awaited}"


def _undeclared(gate: str, outcome: Outcome, hint: str) -> str:
    text = f"the pod declares no revision for gate {gate} ({hint or 'annotation ledgergate.dev/revision'})"
    what_next = {Outcome.HOLD: "it is held until the gate allows it", Outcome.DENY: "it is denied"}
    return f"{text}: {what_next.get(outcome, _NEXT[outcome])}"


def _invalid(declared: str) -> str:
    return (
        f"{_shown(repr(declared), 80)} is not a revision: expected NAME or NAME+COUNT.DIGEST, as `ledgergate migrate "
        "revision` prints it; correct the pod's annotation"
    )


def _invalid_contracts(declared: str) -> str:
    return (
        f"{_shown(repr(declared), 80)} is no list of contract migrations: expected CONTRACT:COMPATIBLE_FROM, separated "
        "by blanks, as `ledgergate migrate revision` prints it; correct the annotation ledgergate.dev/contract"
    )


def _shown_image(reference: str) -> str:
    """Return an image's name, its digest cut to 12 digits."""
    name, at, digest = reference.partition("@")
    return _shown(name, 100) + (f"@{digest[:19]}…" if at else "")


def _shown_gate(gate: Gate) -> str:
    return _shown(gate.name, 40)


def _shown(text: str, limit: int = 56) -> str:
    """Cut a name to what a message has room for: three of 56 characters and a gate's name are still easy to read.

    A ledger may hold names that no revision could have; what is not printable is replaced.
    """
    if len(text) <= limit and text.isprintable():
        return text
    clean = "".join(character if character.isprintable() else "?" for character in text[: limit + 1])
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
