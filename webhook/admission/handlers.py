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
from webhook.core.verdict import Outcome, Reason, Verdict, combine, judge_each, may_be_stale


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


@dataclass(frozen=True, slots=True)
class _PodVerdicts:
    """Every gate's verdict on a pod, by the gates' names, and the one that counts."""

    gates: Sequence[Gate]
    verdicts: Sequence[Verdict]
    final: Verdict

    def messages(self, *outcomes: Outcome) -> tuple[str, ...]:
        """Return what the gates with these outcomes say, so that a pod's creator knows of every one."""
        every = self.verdicts or (self.final,)
        return tuple(verdict.message for verdict in every if verdict.outcome in outcomes)


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
        judgement = await self._judge(request.namespace, pod, doubt=lambda verdict: not verdict.outcome.good)
        verdict, good = judgement.final, judgement.final.outcome.good
        patch = creation_patch(pod, hold=not good, conditions=_conditions(judgement.gates))
        result = _RESULT[verdict.outcome] if good else Result.HELD
        return Answer(verdict, Result.PASSED if pod.spec.node_name and not good else result, patch=patch)

    async def validate(self, request: Request[Pod]) -> Answer:
        """Say the final word on a pod's creation, and on the removal of our gate."""
        if request.operation == "UPDATE":
            return await self._guard_removal(request)
        pod = _subject(request)
        carries = pod.gate_index is not None
        # A pod that is held already was looked at closely a moment ago, by mutation.
        judgement = await self._judge(
            request.namespace, pod, doubt=lambda cached: not (carries and cached.outcome is Outcome.HOLD)
        )
        verdict = judgement.final
        if verdict.outcome is Outcome.DENY:
            return Answer(verdict, Result.DENIED, verdict.message, judgement.messages(Outcome.WARN))
        if verdict.outcome is Outcome.HOLD and not carries:
            if verdict.reason is Reason.UNSELECTED:
                return Answer(verdict, Result.PASSED)
            how = "spec.nodeName is set" if pod.spec.node_name else f"it came without scheduling gate {SCHEDULING_GATE}"
            return Answer(verdict, Result.DENIED, f"{verdict.message} (refused, not held, since {how})")
        return Answer(verdict, _RESULT[verdict.outcome], warnings=judgement.messages(Outcome.WARN, Outcome.HOLD))

    async def audit(self, request: Request[Pod]) -> Answer:
        """Only tell what would become of a new pod, whatever the gates say."""
        judgement = await self._judge(request.namespace, _subject(request), audit=True)
        verdict = judgement.final
        if verdict.reason is Reason.UNSELECTED:
            return Answer(verdict, Result.PASSED)
        return Answer(verdict, _RESULT[verdict.outcome], warnings=judgement.messages(Outcome.WARN))

    async def preview(self, request: Request[Workload], *, audit: bool = False) -> Answer:
        """Tell what will become of a workload's pods; refuse it only where a gate says ``onBehindWorkload: Deny``."""
        workload = _subject(request)
        pod = workload.pod
        if pod is None or workload.metadata.deletion_timestamp is not None:
            return Answer(combine(Pod(), ()), Result.PASSED)
        judgement = await self._judge(request.namespace, pod, audit=audit)
        known = [(gate, self._view.snapshot(gate)) for gate in judgement.gates]
        forecasts = preview(workload, pod, known, self._now(), updated=request.operation == "UPDATE")
        warnings = tuple(warning for forecast in forecasts for warning in forecast.warnings)
        refusals = [forecast for forecast in forecasts if forecast.refusal]
        if refusals:
            message = "; ".join(forecast.refusal for forecast in refusals)
            return Answer(refusals[0].verdict, Result.DENIED, message, warnings)
        if judgement.final.reason is Reason.UNSELECTED:
            return Answer(judgement.final, Result.PASSED)
        return Answer(judgement.final, Result.WARNED if warnings else Result.ADMITTED, warnings=warnings)

    async def _guard_removal(self, request: Request[Pod]) -> Answer:
        """Judge by the pod as it was: the request that takes the gate off must not change what the pod declares too."""
        old, new = request.old_object, _subject(request)
        if old is None or not old.held or new.gate_index is not None or new.metadata.deletion_timestamp is not None:
            return Answer(combine(Pod(), ()), Result.PASSED)
        verdict = (await self._judge(request.namespace, old)).final
        if verdict.outcome.good or verdict.reason is Reason.UNSELECTED:
            return Answer(verdict, Result.ADMITTED)
        return Answer(verdict, Result.DENIED, f"scheduling gate {SCHEDULING_GATE} stays: {verdict.message}")

    async def _judge(
        self,
        namespace: str,
        pod: Pod,
        *,
        doubt: Callable[[Verdict], bool] = lambda _: True,
        audit: bool = False,
    ) -> _PodVerdicts:
        """Judge by the cache; where a newer reading may say better, and it is in doubt, look at the database once."""
        gates = sorted(self._view.selecting(namespace, pod.labels), key=lambda gate: gate.name)
        if audit:
            gates = [replace(gate, policy=replace(gate.policy, mode=Mode.AUDIT)) for gate in gates]
        judgement = self._by_cache(pod, gates)
        doubtful = [
            gate
            for gate, verdict in zip(gates, judgement.verdicts, strict=True)
            if may_be_stale(verdict) and doubt(verdict)
        ]
        if not doubtful:
            return judgement
        await self._view.refresh(doubtful, self._patience)
        return self._by_cache(pod, gates)

    def _by_cache(self, pod: Pod, gates: Sequence[Gate]) -> _PodVerdicts:
        verdicts = judge_each(pod, [(gate, self._view.snapshot(gate)) for gate in gates], self._now())
        return _PodVerdicts(gates, verdicts, combine(pod, verdicts))


_RESULT = {
    Outcome.ADMIT: Result.ADMITTED,
    Outcome.WARN: Result.WARNED,
    Outcome.HOLD: Result.HELD,
    Outcome.DENY: Result.DENIED,
}


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
