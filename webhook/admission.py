"""Answer admission requests: what the verdict means for a pod that is being created or ungated.

Mutation makes our scheduling gate what the verdict says, whether the API server's own policy put it there or not.
Validation has the last word: no pod without our gate, and no removal of it, unless the verdict is good.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from migrations.reading import Reading
from webhook.gate import Gate
from webhook.judgement import judge
from webhook.objects import SCHEDULING_GATE, Pod
from webhook.review import Patch, Request, admit_patch, hold_patch
from webhook.verdict import Outcome, Reason, Verdict


class View(Protocol):
    """What admission needs to know: the gates, and what their ledgers say."""

    @property
    def synced(self) -> bool:
        """Whether every gate is known; before that no answer can be given."""

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the gates of a namespace that select these labels."""

    def reading(self, gate: Gate) -> Reading:
        """Return what is known of a gate's ledger now, without I/O."""

    async def refresh(self, gates: Iterable[Gate], within: float) -> None:
        """Read these gates' ledgers again, waiting no longer than ``within`` seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to one request.

    Args:
        verdict: what it follows from.
        message: what a refused person reads.
    """

    verdict: Verdict
    allowed: bool = True
    message: str = ""
    warnings: tuple[str, ...] = ()
    patch: Patch = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """What became of the pod, as a metric label: admitted, warned, held or denied."""
        if not self.allowed:
            return "denied"
        return {Outcome.ADMIT: "admitted", Outcome.WARN: "warned"}.get(self.verdict.outcome, "held")


class Admission:
    """Answers from what is known, with one bounded look at the database only where a pod would be refused or held.

    Args:
        view: the gates and their ledgers.
        now: the clock, aware.
        patience: seconds that such a look may take; a stale cache then never holds a pod wrongly, and a database that
            does not answer never makes the API server wait.
    """

    def __init__(self, view: View, now: Callable[[], datetime], patience: float = 0.3) -> None:
        self._view = view
        self._now = now
        self._patience = patience

    async def mutate(self, request: Request) -> Answer:
        """Make the gate what the verdict says. A bad verdict holds, also where validation will deny."""
        pod = _subject(request)
        verdict = await self._verdict(request.namespace, pod, accept=lambda _: False)
        if request.operation != "CREATE":
            return Answer(verdict)
        if verdict.outcome.good:
            return Answer(verdict, patch=admit_patch(pod))
        # The API refuses a scheduling gate on a pod that is bound already (KEP-3521); validation denies it instead.
        return Answer(verdict, patch=[] if pod.spec.node_name else hold_patch(pod))

    async def validate(self, request: Request) -> Answer:
        """Say the final word on a pod's creation, and on the removal of our gate."""
        pod = _subject(request)
        if request.operation == "UPDATE":
            return await self._guard_removal(request.old_object, pod, request.namespace)
        carries = pod.gate_index is not None
        verdict = await self._verdict(
            request.namespace, pod, accept=lambda cached: carries and cached.outcome is Outcome.HOLD
        )
        if verdict.reason is Reason.UNSELECTED:
            return Answer(verdict)
        if verdict.outcome is Outcome.HOLD and not carries:
            how = "spec.nodeName is set" if pod.spec.node_name else f"it came without scheduling gate {SCHEDULING_GATE}"
            return Answer(verdict, allowed=False, message=f"{verdict.message} (refused, not held, since {how})")
        if verdict.outcome is Outcome.DENY:
            return Answer(verdict, allowed=False, message=verdict.message)
        return Answer(verdict, warnings=(verdict.message,) if verdict.outcome is Outcome.WARN else ())

    async def _guard_removal(self, old: Pod | None, new: Pod, namespace: str) -> Answer:
        """Judge by the pod as it was: the request that takes the gate off must not change what the pod declares too."""
        removed = old is not None and old.held and new.gate_index is None and new.metadata.deletion_timestamp is None
        verdict = await self._verdict(namespace, old or new, accept=lambda _: not removed)
        if not removed or verdict.outcome.good or verdict.reason is Reason.UNSELECTED:
            return Answer(verdict)
        return Answer(verdict, allowed=False, message=f"scheduling gate {SCHEDULING_GATE} stays: {verdict.message}")

    async def _verdict(self, namespace: str, pod: Pod, *, accept: Callable[[Verdict], bool]) -> Verdict:
        """Judge by the cache; where that is bad, and ``accept`` does not take it, look at the database once more."""
        gates = self._view.selecting(namespace, pod.labels)
        verdict = self._judge(pod, gates)
        if verdict.outcome.good or not gates or accept(verdict):
            return verdict
        bad = [gate for gate in gates if not self._judge(pod, [gate]).outcome.good]
        await self._view.refresh(bad, self._patience)
        return self._judge(pod, gates)

    def _judge(self, pod: Pod, gates: Sequence[Gate]) -> Verdict:
        return judge(pod, [(gate, self._view.reading(gate)) for gate in gates], self._now())


def _subject(request: Request) -> Pod:
    """Return the pod that the request is about; reviews without one were refused when they were read."""
    if request.object is None:
        raise ValueError("a review without an object reached admission")
    return request.object
