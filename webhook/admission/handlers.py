"""Answer admission requests: what the verdict means for a pod, or for a workload, that is being created or changed.

Mutation adds or removes ledgergate's scheduling gate, as the verdict says, whether the API server's own policy added it
or not. Its webhook fails open (Ignore): where it does not answer, the pod goes on as the policy, if any, left it.

Validation decides last: no pod without the scheduling gate, and no removal of it, unless the verdict is good. Which of
its webhooks the API server calls depends on the pod. One that comes without the scheduling gate, or loses it, goes to
one that fails closed (Fail): otherwise a pod could pass unchecked while no webhook answers. One that carries the gate
goes to one that fails open: it is held anyway, and the controller releases it later, so an outage denies no pod.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Protocol, TypeVar

from migrations.core.snapshot import LedgerSnapshot
from webhook.admission.forecast import preview
from webhook.admission.freeze import Loss, find_loss
from webhook.admission.review import Request
from webhook.admission.rollout_warnings import rollout_warnings
from webhook.api.account import REMEDY
from webhook.api.objects import SCHEDULING_GATE, LedgerGate, Pod
from webhook.api.workload import Workload
from webhook.core.expectation import STATUS_IMAGES, ImageView
from webhook.core.gate import BYPASS_LIMIT, Gate, Mode, Readiness, parse_gate
from webhook.core.near_misses import find_misplaced
from webhook.core.patches import Patch, condition_type, creation_patch
from webhook.core.pod_verdict import UNSELECTED, PodVerdict, await_gate, decide_pod, leave_to_controller
from webhook.core.verdict import Outcome, Reason, Verdict


class GateView(Protocol):
    """What admission asks of the gates."""

    @property
    def synced(self) -> bool:
        """Whether every gate is known. Before that, a pod that no gate selects may have one that was not listed yet."""

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the gates of a namespace that select these labels."""


class LedgerView(Protocol):
    """What admission asks of the gates' ledgers."""

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is known of a gate's ledger now, without I/O."""


class Result(StrEnum):
    """The outcome for the object, as a metric label."""

    ADMITTED = "admitted"
    WARNED = "warned"
    HELD = "held"
    DENIED = "denied"
    PASSED = "passed"
    """Nothing was decided here: another webhook of ledgergate decides, or nothing has to be decided."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request.

    Args:
        verdict: the reason for it.
        message: shown to the person whose request is refused; empty where it is not.
        warnings: shown by kubectl, whether it is refused or not.
        patch: changes to the object; empty for none.
    """

    verdict: Verdict
    result: Result
    message: str = ""
    warnings: tuple[str, ...] = ()
    patch: Patch = field(default_factory=list)

    @property
    def allowed(self) -> bool:
        """Whether the object may be stored."""
        return self.result is not Result.DENIED


class Admission:
    """Answers from what the LedgerGates say, without any I/O.

    A pod about which they say too little is held; the controller, which has the whole ledger, decides about it.

    Args:
        now: the clock, aware.
        images: what is known of the pods' images.
        controller: the user name of the controller's account, whose requests the webhook configuration should except.
    """

    def __init__(
        self,
        gates: GateView,
        ledgers: LedgerView,
        now: Callable[[], datetime],
        images: ImageView = STATUS_IMAGES,
        controller: str = "",
    ) -> None:
        self._gates = gates
        self._ledgers = ledgers
        self._now = now
        self._images = images
        self._controller = controller

    def mutate(self, request: Request[Pod], *, waits: bool = False) -> Answer:
        """Add or remove a new pod's scheduling gate, as the verdict says, and add the readiness gates.

        A bad verdict holds the pod also where validation will deny it: should that call fail, the pod is at least held.

        Args:
            waits: the namespace has label ``ledgergate.dev/undeclared: wait``.
        """
        pod = _subject(request)
        decided = self._decide(request.namespace, pod)
        if waits:
            decided = await_gate(pod, decided)
        verdict, good = decided.final, decided.final.outcome.good
        patch = creation_patch(pod, hold=not good, conditions=_conditions(each.gate for each in decided.by_gate))
        result = _RESULT[verdict.outcome] if good else Result.HELD
        return Answer(verdict, Result.PASSED if pod.spec.node_name and not good else result, patch=patch)

    def validate(self, request: Request[Pod]) -> Answer:
        """Decide last on a pod's creation, and on the removal of the scheduling gate."""
        if request.operation == "UPDATE":
            return self._validate_removal(request)
        pod = _subject(request)
        carries = pod.gate_index is not None
        decided = self._decide(request.namespace, pod)
        verdict = decided.final
        if verdict.outcome is Outcome.DENY:
            return Answer(verdict, Result.DENIED, verdict.message, _messages(decided, Outcome.WARN))
        if verdict.outcome is Outcome.HOLD and not carries:
            if verdict.reason is Reason.UNSELECTED:
                return Answer(verdict, Result.PASSED)  # no gate selects it, so none can have asked for a refusal
            how = "spec.nodeName is set" if pod.spec.node_name else f"it came without scheduling gate {SCHEDULING_GATE}"
            return Answer(verdict, Result.DENIED, f"{verdict.message} (refused, not held, since {how})")
        warnings = (*_messages(decided, Outcome.WARN, Outcome.HOLD), *decided.hints)
        return Answer(verdict, _RESULT[verdict.outcome], warnings=warnings)

    def relabel(self, request: Request[Pod]) -> Answer:
        """Decide on a change of a held pod's labels: while the verdict is bad, each gate must go on selecting the pod.

        The pod is judged as it was, as for the removal of its scheduling gate.
        """
        old, new = request.old_object, _subject(request)
        if old is None or not old.held:
            return Answer(UNSELECTED, Result.PASSED)
        loss = find_loss(self._gates.selecting(request.namespace, old.labels), new.labels)
        if loss is None:
            return Answer(UNSELECTED, Result.PASSED)
        verdict = self._decide(request.namespace, old).final
        if verdict.outcome.good:
            return Answer(verdict, Result.ADMITTED)
        return Answer(verdict, Result.DENIED, f"{_explain_loss(loss, request.namespace)} ({verdict.message})")

    def limit_bypass(self, request: Request[LedgerGate]) -> Answer:
        """Refuse a bypass that ends too late to count, so that its author learns of it."""
        gate = parse_gate(_subject(request))
        until, verdict = gate.policy.bypass_until, Verdict(Reason.BYPASSED, Outcome.WARN, "", gate.name)
        if until is None or not gate.policy.is_bypass_too_long(self._now()):
            return Answer(verdict, Result.ADMITTED)
        verdict = replace(verdict, outcome=Outcome.DENY, message=f"{until.isoformat()} is too late: {BYPASS_LIMIT}")
        return Answer(verdict, Result.DENIED, verdict.message)

    def audit(self, request: Request[Pod]) -> Answer:
        """Warn of what would happen to a new pod, and admit it, whatever the gates say."""
        decided = self._decide(request.namespace, _subject(request), audit=True)
        verdict = decided.final
        if verdict.reason is Reason.UNSELECTED:
            return Answer(verdict, Result.PASSED)
        return Answer(verdict, _RESULT[verdict.outcome], warnings=(*_messages(decided, Outcome.WARN), *decided.hints))

    def preview(self, request: Request[Workload], *, audit: bool = False) -> Answer:
        """Warn of what will happen to a workload's pods; refuse it only where a gate has ``onBehindWorkload: Deny``."""
        workload = _subject(request)
        pod = workload.pod
        if pod is None or workload.metadata.deletion_timestamp is not None:
            return Answer(UNSELECTED, Result.PASSED)
        decided = self._decide(request.namespace, pod, audit=audit)
        forecasts = preview(workload, decided.by_gate, updated=request.operation == "UPDATE")
        warnings = tuple(warning for forecast in forecasts for warning in forecast.warnings)
        warnings = (*warnings, *decided.hints, *find_misplaced(workload))
        if not audit:
            warnings += rollout_warnings(workload, request.old_object, decided.by_gate)
        refusals = [forecast for forecast in forecasts if forecast.refusal]
        if refusals:
            message = "; ".join(forecast.refusal for forecast in refusals)
            return Answer(refusals[0].decision.verdict, Result.DENIED, message, warnings)
        if decided.final.reason is Reason.UNSELECTED:
            return Answer(decided.final, Result.PASSED, warnings=warnings)
        return Answer(decided.final, Result.WARNED if warnings else Result.ADMITTED, warnings=warnings)

    def _validate_removal(self, request: Request[Pod]) -> Answer:
        """Decide by the pod as it was: the request that removes the gate must not change what the pod declares too."""
        old, new = request.old_object, _subject(request)
        # Only an update that takes the gate off a held pod is decided here; a pod that is being deleted may lose it.
        if old is None or not old.held or new.gate_index is not None or new.metadata.deletion_timestamp is not None:
            return Answer(UNSELECTED, Result.PASSED)
        verdict = self._decide(request.namespace, old).final
        if verdict.outcome.good or verdict.reason is Reason.UNSELECTED:
            return Answer(verdict, Result.ADMITTED)
        message = f"scheduling gate {SCHEDULING_GATE} stays: {verdict.message}"
        if self._controller and request.user_info.username == self._controller:
            message += f" (the webhook configuration does not except {self._controller}: {REMEDY})"
        return Answer(verdict, Result.DENIED, message)

    def _decide(self, namespace: str, pod: Pod, *, audit: bool = False) -> PodVerdict:
        gates = sorted(self._gates.selecting(namespace, pod.labels), key=attrgetter("name"))
        if audit:
            gates = [replace(gate, policy=replace(gate.policy, mode=Mode.AUDIT)) for gate in gates]
        selecting = [(gate, self._ledgers.snapshot(gate)) for gate in gates]
        return leave_to_controller(decide_pod(pod, selecting, self._now(), self._images))


_RESULT = {
    Outcome.ADMIT: Result.ADMITTED,
    Outcome.WARN: Result.WARNED,
    Outcome.HOLD: Result.HELD,
    Outcome.DENY: Result.DENIED,
}


def _explain_loss(loss: Loss, namespace: str) -> str:
    """Return the message about a refused change of labels, with the two ways to go on."""
    labels = f"label{'s' if len(loss.labels) > 1 else ''} {', '.join(loss.labels)}"
    plural = len(loss.gates) > 1
    gates = f"LedgerGate{'s' if plural else ''} {', '.join(loss.gates)} select{'' if plural else 's'}"
    return (
        f"{labels} cannot change while the pod is held, since {gates} it thereby: correct the template of its "
        "Deployment, Job or other owner and delete the pod, or, in an emergency, open the gate for a while with "
        f"`ledgergate bypass {loss.gates[0]} -n {namespace} --for 30m --reason TEXT`"
    )


def _messages(decided: PodVerdict, *outcomes: Outcome) -> tuple[str, ...]:
    """Return the messages of the gates with these outcomes, so that a pod's creator learns of each of them.

    Also return how the pod's annotation or variable differs from its image, which counts.
    """
    verdicts = [each.verdict for each in decided.by_gate] or [decided.final]
    conflicts = dict.fromkeys(each.required.conflict for each in decided.by_gate if each.required.conflict)
    return (*(verdict.message for verdict in verdicts if verdict.outcome in outcomes), *conflicts)


def _conditions(gates: Iterable[Gate]) -> tuple[str, ...]:
    """Return the readiness gates that a pod needs; a gate that only audits must not keep a pod from being ready."""
    return tuple(
        condition_type(gate.name)
        for gate in gates
        if gate.policy.readiness is not Readiness.OFF and gate.policy.mode is Mode.ENFORCE
    )


T = TypeVar("T")


def _subject(request: Request[T]) -> T:
    """Return the request's object; `decode_review` refuses reviews without one."""
    if request.object is None:
        raise ValueError("a review without an object reached admission")
    return request.object
