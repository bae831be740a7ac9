"""Answer admission requests: what the verdict means for a pod, or for a workload, that is being created or changed.

Mutation makes our scheduling gate what the verdict says, whether the API server's own policy put it there or not.
Validation has the last word: no pod without our gate, and no removal of it, unless the verdict is good.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from migrations.core.snapshot import LedgerSnapshot
from webhook.admission.forecast import preview
from webhook.admission.review import Request
from webhook.api.objects import SCHEDULING_GATE, Pod
from webhook.api.workload import Workload
from webhook.core.gate import Gate, Mode, Readiness
from webhook.core.patches import Patch, condition_type, creation_patch
from webhook.core.pod_verdict import UNSELECTED, PodVerdict, decide_pod
from webhook.core.verdict import Outcome, Reason, Verdict, may_be_stale


class GateView(Protocol):
    """What admission needs to know: the gates, and what their ledgers say."""

    @property
    def synced(self) -> bool:
        """Whether every gate is known; before that no answer can be given."""

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the gates of a namespace that select these labels."""

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is known of a gate's ledger now, without I/O."""

    async def refresh(self, gates: Iterable[Gate], within: float) -> None:
        """Read these gates' ledgers again, waiting no longer than ``within`` seconds."""


class Result(StrEnum):
    """What became of the object, as a metric label."""

    ADMITTED = "admitted"
    WARNED = "warned"
    HELD = "held"
    DENIED = "denied"
    PASSED = "passed"
    """Nothing was decided here: another webhook of ours decides, or nothing has to be decided."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to one request.

    Args:
        verdict: what it follows from.
        message: what a refused person reads.
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
    """Answers from what is known, with one bounded look at the database only where a pod would be refused or held.

    Args:
        view: the gates and their ledgers.
        now: the clock, aware.
        patience: seconds that such a look may take; a stale cache then never holds a pod wrongly, and a database that
            does not answer never makes the API server wait.
    """

    def __init__(self, view: GateView, now: Callable[[], datetime], patience: float = 0.3) -> None:
        self._view = view
        self._now = now
        self._patience = patience

    async def mutate(self, request: Request[Pod]) -> Answer:
        """Make a new pod's gates what the verdict says. A bad verdict holds, also where validation will deny."""
        pod = _subject(request)
        decided = await self._decide(request.namespace, pod, doubt=lambda verdict: not verdict.outcome.good)
        verdict, good = decided.final, decided.final.outcome.good
        patch = creation_patch(pod, hold=not good, conditions=_conditions(each.gate for each in decided.by_gate))
        result = _RESULT[verdict.outcome] if good else Result.HELD
        return Answer(verdict, Result.PASSED if pod.spec.node_name and not good else result, patch=patch)

    async def validate(self, request: Request[Pod]) -> Answer:
        """Say the final word on a pod's creation, and on the removal of our gate."""
        if request.operation == "UPDATE":
            return await self._guard_removal(request)
        pod = _subject(request)
        carries = pod.gate_index is not None
        # A pod that is held already was looked at closely a moment ago, by mutation.
        decided = await self._decide(
            request.namespace, pod, doubt=lambda cached: not (carries and cached.outcome is Outcome.HOLD)
        )
        verdict = decided.final
        if verdict.outcome is Outcome.DENY:
            return Answer(verdict, Result.DENIED, verdict.message, _messages(decided, Outcome.WARN))
        if verdict.outcome is Outcome.HOLD and not carries:
            if verdict.reason is Reason.UNSELECTED:
                return Answer(verdict, Result.PASSED)
            how = "spec.nodeName is set" if pod.spec.node_name else f"it came without scheduling gate {SCHEDULING_GATE}"
            return Answer(verdict, Result.DENIED, f"{verdict.message} (refused, not held, since {how})")
        return Answer(verdict, _RESULT[verdict.outcome], warnings=_messages(decided, Outcome.WARN, Outcome.HOLD))

    async def audit(self, request: Request[Pod]) -> Answer:
        """Only tell what would become of a new pod, whatever the gates say."""
        decided = await self._decide(request.namespace, _subject(request), audit=True)
        verdict = decided.final
        if verdict.reason is Reason.UNSELECTED:
            return Answer(verdict, Result.PASSED)
        return Answer(verdict, _RESULT[verdict.outcome], warnings=_messages(decided, Outcome.WARN))

    async def preview(self, request: Request[Workload], *, audit: bool = False) -> Answer:
        """Warn of what will happen to a workload's pods; refuse it only where a gate has ``onBehindWorkload: Deny``."""
        workload = _subject(request)
        pod = workload.pod
        if pod is None or workload.metadata.deletion_timestamp is not None:
            return Answer(UNSELECTED, Result.PASSED)
        decided = await self._decide(request.namespace, pod, audit=audit)
        forecasts = preview(workload, decided.by_gate, updated=request.operation == "UPDATE")
        warnings = tuple(warning for forecast in forecasts for warning in forecast.warnings)
        refusals = [forecast for forecast in forecasts if forecast.refusal]
        if refusals:
            message = "; ".join(forecast.refusal for forecast in refusals)
            return Answer(refusals[0].decision.verdict, Result.DENIED, message, warnings)
        if decided.final.reason is Reason.UNSELECTED:
            return Answer(decided.final, Result.PASSED)
        return Answer(decided.final, Result.WARNED if warnings else Result.ADMITTED, warnings=warnings)

    async def _guard_removal(self, request: Request[Pod]) -> Answer:
        """Judge by the pod as it was: the request that takes the gate off must not change what the pod declares too."""
        old, new = request.old_object, _subject(request)
        if old is None or not old.held or new.gate_index is not None or new.metadata.deletion_timestamp is not None:
            return Answer(UNSELECTED, Result.PASSED)
        verdict = (await self._decide(request.namespace, old)).final
        if verdict.outcome.good or verdict.reason is Reason.UNSELECTED:
            return Answer(verdict, Result.ADMITTED)
        return Answer(verdict, Result.DENIED, f"scheduling gate {SCHEDULING_GATE} stays: {verdict.message}")

    async def _decide(
        self,
        namespace: str,
        pod: Pod,
        *,
        doubt: Callable[[Verdict], bool] = lambda _: True,
        audit: bool = False,
    ) -> PodVerdict:
        """Decide by the cache; read the database once where that may change a verdict that is in doubt."""
        gates = sorted(self._view.selecting(namespace, pod.labels), key=lambda gate: gate.name)
        if audit:
            gates = [replace(gate, policy=replace(gate.policy, mode=Mode.AUDIT)) for gate in gates]
        decided = self._decide_by_cache(pod, gates)
        doubtful = [each.gate for each in decided.by_gate if may_be_stale(each.verdict) and doubt(each.verdict)]
        if not doubtful:
            return decided
        await self._view.refresh(doubtful, self._patience)
        return self._decide_by_cache(pod, gates)

    def _decide_by_cache(self, pod: Pod, gates: Sequence[Gate]) -> PodVerdict:
        return decide_pod(pod, [(gate, self._view.snapshot(gate)) for gate in gates], self._now())


_RESULT = {
    Outcome.ADMIT: Result.ADMITTED,
    Outcome.WARN: Result.WARNED,
    Outcome.HOLD: Result.HELD,
    Outcome.DENY: Result.DENIED,
}


def _messages(decided: PodVerdict, *outcomes: Outcome) -> tuple[str, ...]:
    """Return the messages of the gates with these outcomes, so that a pod's creator learns of each of them."""
    verdicts = [each.verdict for each in decided.by_gate] or [decided.final]
    return tuple(verdict.message for verdict in verdicts if verdict.outcome in outcomes)


def _conditions(gates: Iterable[Gate]) -> tuple[str, ...]:
    """Return the readiness gates that a pod needs; a gate that only audits must not keep a pod from being ready."""
    return tuple(
        condition_type(gate.name)
        for gate in gates
        if gate.policy.readiness is not Readiness.OFF and gate.policy.mode is Mode.ENFORCE
    )


T = TypeVar("T")


def _subject(request: Request[T]) -> T:
    """Return what the request is about; reviews without an object were refused when they were read."""
    if request.object is None:
        raise ValueError("a review without an object reached admission")
    return request.object
