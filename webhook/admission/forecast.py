"""Foretell what will become of a workload's pods, in words that fit a warning of `kubectl apply`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from migrations.core.snapshot import LedgerSnapshot
from webhook.admission.review import WARNING_LIMIT, shorten
from webhook.api.objects import Pod
from webhook.api.workload import Workload
from webhook.core.gate import Action, Gate, Mode
from webhook.core.requirement import Requirement, requirement
from webhook.core.verdict import Outcome, Reason, Verdict, judge_each

REFUSAL_LIMIT = 500
"""Characters of a refusal: room for every name, unless somebody tries."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one gate will do about the pods of a workload.

    Args:
        verdict: what would be decided about one of them now, were the gate to enforce it.
        warnings: that in words; none where the pods may run.
        refusal: why the workload is refused; empty where it is not.
    """

    verdict: Verdict
    warnings: tuple[str, ...] = ()
    refusal: str = ""


def preview(
    workload: Workload, pod: Pod, gates: Iterable[tuple[Gate, LedgerSnapshot]], now: datetime, *, updated: bool
) -> tuple[Forecast, ...]:
    """Foretell what each gate will do.

    Args:
        pod: one of the workload's, as its template has it.
        gates: those that select the pod, each with what is known of its ledger.
        now: aware.
        updated: the workload is there already, and may have pods that run.
    """
    forecasts = []
    for gate, snapshot in gates:
        enforcing = replace(gate, policy=replace(gate.policy, mode=Mode.ENFORCE))
        (verdict,) = judge_each(pod, [(enforcing, snapshot)], now)
        why = _why(gate, requirement(pod, gate.name, gate.expect_env), snapshot, verdict)
        forecasts.append(_forecast(workload, gate, verdict, why, updated=updated))
    return tuple(forecasts)


_Words = tuple[str, dict[str, str]]
"""A sentence with places, and the names that go there, which are cut where the whole is too long."""


def _forecast(workload: Workload, gate: Gate, verdict: Verdict, why: _Words, *, updated: bool) -> Forecast:
    if verdict.outcome is Outcome.ADMIT:
        return Forecast(verdict)
    if verdict.outcome is Outcome.WARN:
        return Forecast(verdict, (_say("pods of {title} will start all the same: ", workload, why),))
    fate = "held" if verdict.outcome is Outcome.HOLD else "denied"
    if gate.policy.mode is Mode.AUDIT:
        return Forecast(verdict, (_say(f"audit: pods of {{title}} would be {fate}: ", workload, why),))
    warnings = [_say(f"pods of {{title}} will be {fate}: ", workload, why)]
    if updated and workload.removes_first:
        text = f"this update takes running pods of {{title}} away, and their successors will be {fate}"
        warnings.append(_say(text, workload, ("", {})))
    if gate.policy.on_behind_workload is Action.DENY and verdict.reason is not Reason.UNREACHABLE:
        then = "; apply it again when they may start (onBehindWorkload of LedgerGate {gate} is Deny)"
        refusal = _say(f"pods of {{title}} would be {fate}: ", workload, (why[0] + then, why[1]), REFUSAL_LIMIT)
        return Forecast(verdict, tuple(warnings), refusal)
    return Forecast(verdict, tuple(warnings))


def _why(gate: Gate, requires: Requirement, snapshot: LedgerSnapshot, verdict: Verdict) -> _Words:
    """Say why, more briefly than a verdict does, which has a message's room."""
    ledger = snapshot.ledger
    names = {
        "gate": gate.name,
        "expected": requires.expected.name if requires.expected else "",
        "head": (ledger.head if ledger else None) or "its beginning",
        "dirty": ledger.dirty.revision if ledger and ledger.dirty else "",
        "declared": repr(requires.invalid),
        "message": verdict.message,
    }
    return _WHY.get(verdict.reason, "{message}"), names


_WHY = {
    Reason.BEHIND: "ledger {gate} is at {head}, the image expects {expected}",
    Reason.AHEAD: "ledger {gate} is at {head}, ahead of {expected}",
    Reason.INCOMPLETE: "ledger {gate} lacks one that the image knows below {expected}",
    Reason.DIRTY: "migration {dirty} of ledger {gate} is unfinished",
    Reason.INCOMPATIBLE: "a contract migration in ledger {gate} shuts out images of {expected}",
    Reason.UNREACHABLE: "ledger {gate} cannot be read now",
    Reason.UNDECLARED: "no annotation ledgergate.dev/revision for gate {gate}",
    Reason.INVALID: "{declared} is no revision",
    Reason.BYPASSED: "gate {gate} is bypassed",
}


def _say(beginning: str, workload: Workload, why: _Words, limit: int = WARNING_LIMIT) -> str:
    """Fill names into a sentence; where it is too long, the longest of them are cut to what has room."""
    template = beginning + why[0]
    given = {**why[1], "title": workload.title}
    # None gets more than half of the room, so that a name of a thousand characters is not cut one by one.
    names = {place: shorten(name, limit // 2) for place, name in given.items() if f"{{{place}}}" in template}
    room = {place: len(name) for place, name in names.items()}
    while True:
        text = template.format(**{place: shorten(name, room[place]) for place, name in names.items()})
        if len(text) <= limit:
            return text
        room[max(room, key=lambda place: room[place])] -= 1
