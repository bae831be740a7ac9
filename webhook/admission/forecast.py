"""Warn at `kubectl apply` of what will happen to a workload's pods, in one line for each gate."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from webhook.admission.review import WARNING_LIMIT, shorten
from webhook.api.workload import Workload
from webhook.core.gate import Action, Mode
from webhook.core.pod_verdict import Decision
from webhook.core.verdict import Outcome, Reason

REFUSAL_LIMIT = 500
"""Characters of a refusal: enough for all names in full, unless they are made to be long."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one gate will do about the pods of a workload.

    Args:
        decision: what the gate would decide about one of them now.
        warnings: the same in words; empty where the pods may run.
        refusal: why the workload is refused; empty where it is not.
    """

    decision: Decision
    warnings: tuple[str, ...] = ()
    refusal: str = ""


def preview(workload: Workload, decisions: Iterable[Decision], *, updated: bool) -> tuple[Forecast, ...]:
    """Return what each gate will do about a workload's pods.

    Args:
        decisions: each gate's decision about one of the workload's pods, made from its template.
        updated: the workload exists already, and may have pods that run.
    """
    return tuple(_preview(workload, decision, updated=updated) for decision in decisions)


_PASSING = {Reason.UNREACHABLE, Reason.UNDECIDED, Reason.RESOLVING, Reason.UNRESOLVED, Reason.STILL_NEEDED}
"""Reasons that say nothing against the workload: it is not refused for them."""

_Sentence = tuple[str, dict[str, str]]
"""A format string, and the names that are filled in, which are cut where the whole is too long."""


def _preview(workload: Workload, decision: Decision, *, updated: bool) -> Forecast:
    forecast = _fate(workload, decision, updated=updated)
    if not decision.required.conflict:
        return forecast
    return replace(forecast, warnings=(*forecast.warnings, decision.required.conflict))


def _fate(workload: Workload, decision: Decision, *, updated: bool) -> Forecast:
    gate, why = decision.gate, _explain(decision)
    outcome = decision.verdict.enforced
    # A new image is usually known a moment after its first pod; a warning at each apply would say nothing.
    if outcome is Outcome.ADMIT or decision.verdict.reason is Reason.RESOLVING:
        return Forecast(decision)
    if outcome is Outcome.WARN:
        return Forecast(decision, (_format("pods of {title} will start all the same: ", workload, why),))
    fate = "held" if outcome is Outcome.HOLD else "denied"
    if gate.policy.mode is Mode.AUDIT:
        return Forecast(decision, (_format(f"audit: pods of {{title}} would be {fate}: ", workload, why),))
    warnings = [_format(f"pods of {{title}} will be {fate}: ", workload, why)]
    if updated and workload.removes_first:
        text = f"this update takes running pods of {{title}} away, and their successors will be {fate}"
        warnings.append(_format(text, workload, ("", {})))
    if gate.policy.on_behind_workload is Action.DENY and decision.verdict.reason not in _PASSING:
        remedy = "; apply it again when they may start (onBehindWorkload of LedgerGate {gate} is Deny)"
        refusal = _format(f"pods of {{title}} would be {fate}: ", workload, (why[0] + remedy, why[1]), REFUSAL_LIMIT)
        return Forecast(decision, tuple(warnings), refusal)
    return Forecast(decision, tuple(warnings))


def _explain(decision: Decision) -> _Sentence:
    """Return the verdict's reason in fewer words than its message, which an Event has more room for."""
    ledger, required = decision.snapshot.ledger, decision.required
    names = {
        "gate": decision.gate.name,
        "expected": required.expected.name if required.expected else "",
        "head": (ledger.head if ledger else None) or "its beginning",
        "dirty": ledger.dirty.revision if ledger and ledger.dirty else "",
        "declared": repr(required.invalid),
        "message": decision.verdict.message,
        "image": required.unknown.reference if required.unknown else "",
    }
    if required.problem:  # not a template: its braces are text
        return required.problem.replace("{", "(").replace("}", ")"), names
    return _WHY.get(decision.verdict.reason, "{message}"), names


_WHY = {
    Reason.BEHIND: "ledger {gate} is at {head}, the image expects {expected}",
    Reason.AHEAD: "ledger {gate} is at {head}, ahead of {expected}",
    Reason.INCOMPLETE: "ledger {gate} lacks one that the image knows below {expected}",
    Reason.DIRTY: "migration {dirty} of ledger {gate} is unfinished",
    Reason.INCOMPATIBLE: "a contract migration in ledger {gate} shuts out images of {expected}",
    Reason.UNREACHABLE: "ledger {gate} cannot be read now",
    Reason.UNDECIDED: "the controller decides whether ledger {gate} has {expected}",
    Reason.STILL_NEEDED: "a contract migration of ledger {gate} waits while older pods run",
    Reason.UNRESOLVED: "image {image} cannot be read from its registry",
    Reason.UNDECLARED: "no annotation ledgergate.dev/revision for gate {gate}",
    Reason.INVALID: "{declared} is no revision",
    Reason.BYPASSED: "gate {gate} is bypassed",
}


def _format(beginning: str, workload: Workload, why: _Sentence, limit: int = WARNING_LIMIT) -> str:
    """Fill names into a sentence; where it is too long, cut the longest of them until it fits."""
    template = beginning + why[0]
    values = {**why[1], "title": workload.title}
    # No name gets more than half of the room, so that one of a thousand characters is not shortened one by one.
    names = {field: shorten(name, limit // 2) for field, name in values.items() if f"{{{field}}}" in template}
    room = {field: len(name) for field, name in names.items()}
    while True:
        text = template.format(**{field: shorten(name, room[field]) for field, name in names.items()})
        if len(text) <= limit:
            return text
        room[max(room, key=lambda field: room[field])] -= 1
