"""Tell on a pod that runs, where verdicts do not count, what Enforce would have done."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from migrations.core.snapshot import Fault
from webhook.api.namespace import OptIn
from webhook.api.objects import Pod
from webhook.controller.events import Event, EventSink, Reference
from webhook.core.gate import Gate, Mode
from webhook.core.pod_verdict import decide_pod
from webhook.core.verdict import Verdict
from webhook.ledgers.registry import GateCache

PATIENCE = 1.0
"""Seconds to read a ledger again before it is said to be behind: nobody waits for this."""


class AuditEvents:
    """Looks at each new pod once.

    Args:
        admission: what a namespace's label says.
        now: the clock, aware.
    """

    def __init__(
        self, guard: GateCache, tell: EventSink, *, admission: Callable[[str], OptIn], now: Callable[[], datetime]
    ) -> None:
        self._guard = guard
        self._tell = tell
        self._admission = admission
        self._now = now

    def concerns(self, pod: Pod) -> bool:
        """Tell whether a pod was let go because its verdict is only told."""
        return not pod.held and pod.metadata.deletion_timestamp is None and bool(self._auditing(pod))

    async def look(self, pod: Pod) -> None:
        """Judge a pod as Enforce would, and tell of a verdict that is bad by a fresh look at its ledgers too."""
        if self._enforced(pod) is None:
            return
        await self._guard.refresh(self._auditing(pod), PATIENCE)
        verdict = self._enforced(pod)
        if verdict is not None:
            note = f"audit only, under Enforce it would not start: {verdict.message}"
            self._tell(Event(Reference.pod(pod.metadata), "Audit", "Audit", note, warning=True))

    def _enforced(self, pod: Pod) -> Verdict | None:
        """Return the bad verdict that Enforce would give; None where it is good, or the ledger was not read yet."""
        enforced = [
            (replace(gate, policy=replace(gate.policy, mode=Mode.ENFORCE)), self._guard.snapshot(gate))
            for gate in self._auditing(pod)
        ]
        if not enforced or any(snapshot.fault is Fault.UNREAD for _, snapshot in enforced):
            return None
        verdict = decide_pod(pod, enforced, self._now()).final
        return None if verdict.outcome.good else verdict

    def _auditing(self, pod: Pod) -> list[Gate]:
        namespace = pod.metadata.namespace
        admission = self._admission(namespace)
        if admission is OptIn.OFF:
            return []
        gates = self._guard.selecting(namespace, pod.labels)
        return [gate for gate in gates if admission is OptIn.AUDIT or gate.policy.mode is Mode.AUDIT]
