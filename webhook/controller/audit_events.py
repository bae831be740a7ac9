"""Events on pods that run where verdicts do not count: what Enforce would have done."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from migrations.core.snapshot import Fault
from webhook.api.namespace import OptIn
from webhook.api.objects import Pod
from webhook.cache.gates import GateCache
from webhook.controller.contract_events import shown_name
from webhook.controller.events import Event, EventSink, Reference
from webhook.core.contracting import boundary_of, lacking
from webhook.core.expectation import ImageView
from webhook.core.gate import Gate, Mode
from webhook.core.living import count_living, still_needed_text
from webhook.core.pod_verdict import Decision, PodVerdict, decide_pod, read_required, strictest
from webhook.core.selector import Selector
from webhook.core.verdict import Outcome, Reason, Verdict
from webhook.kube.errors import ClusterError
from webhook.kube.reflector import Feed
from webhook.ledgers.registry import LedgerRegistry
from webhook.telemetry import log_event

READING_TIMEOUT_SECONDS = 5.0
"""For a newer reading before an Event says that a ledger is behind; no request waits for it."""

READING_POLL_SECONDS = 0.1


class AuditApi(Protocol):
    """Where the pods under a gate are listed."""

    def selected_pods(self, namespace: str, selector: Selector) -> Feed[Pod]:
        """Return the feed of a namespace's pods that a selector matches."""


class AuditEvents:
    """Checks each new pod once, under the gates that only audit it.

    Watches nothing itself: the release reconciler passes on the pods that it sees created. Lists the pods under a gate
    for each migrator that brings a contract migration. Writes Events.

    Args:
        images: what is known of the pods' images.
        admission: what a namespace's label says.
        now: the clock, aware.
    """

    def __init__(
        self,
        api: AuditApi,
        gates: GateCache,
        ledgers: LedgerRegistry,
        images: ImageView,
        emit: EventSink,
        *,
        admission: Callable[[str], OptIn],
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._gates = gates
        self._ledgers = ledgers
        self._images = images
        self._emit = emit
        self._admission = admission
        self._now = now

    def applies_to(self, pod: Pod) -> bool:
        """Return whether a gate, or the pod's namespace, only audits this pod."""
        return not pod.held and pod.metadata.deletion_timestamp is None and bool(self._auditing(pod))

    async def check(self, pod: Pod) -> None:
        """Emit an Event if Enforce would not have let the pod start, by a fresh reading of its ledgers too."""
        if self._bad_verdict(pod) is None:
            return
        await self._await_reading(pod, self._auditing(pod))
        verdict = await self._counted_verdict(pod)
        if verdict is not None:
            note = f"audit only, under Enforce it would not start: {verdict.message}"
            self._emit(Event(Reference.pod(pod.metadata), "Audit", "Audit", note, warning=True))

    async def _await_reading(self, pod: Pod, gates: list[Gate]) -> None:
        """Wait until the ledgers of these gates were read again, and the pod's images, for some seconds at most."""
        since, keys = self._now(), [gate.key for gate in gates]
        for key in keys:
            self._ledgers.set_urgent(key, urgent=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(READING_TIMEOUT_SECONDS):
                while not all(self._was_read(gate, since) for gate in gates) or self._resolving(pod):  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(READING_POLL_SECONDS)
        for key in keys:
            self._ledgers.set_urgent(key, urgent=False)  # no pod waits for a gate that only audits

    def _was_read(self, gate: Gate, since: datetime) -> bool:
        read = self._ledgers.snapshot(gate).observed_at
        return read is not None and read > since

    def _resolving(self, pod: Pod) -> bool:
        verdict = self._bad_verdict(pod)
        return verdict is not None and verdict.reason is Reason.RESOLVING

    async def _counted_verdict(self, pod: Pod) -> Verdict | None:
        """Return the verdict as `_bad_verdict` does, with the living pods of a migrator's gates counted."""
        decided = self._decide(pod)
        if decided is None:
            return None
        counted = [await self._count(pod, each) for each in decided.by_gate]
        if counted == [each.verdict for each in decided.by_gate]:
            return decided.final
        final = strictest(counted)
        return None if final is None or final.outcome.good else final

    async def _count(self, pod: Pod, decision: Decision) -> Verdict:
        """Return a gate's verdict; of a migrator with a contract migration, the one that the living pods make it."""
        gate, verdict = decision.gate, decision.verdict
        if verdict.reason is not Reason.STILL_NEEDED or verdict.outcome.good:
            return verdict
        try:
            listed, _ = await self._api.selected_pods(gate.namespace, gate.selector).list_objects()
        except ClusterError as error:
            log_event("audit.unreadable", level=logging.WARNING, gate="/".join(gate.key), error=str(error))
            return verdict
        ledger = decision.snapshot.ledger
        contracts = lacking(gate, decision.required, ledger)
        living = count_living(
            gate,
            (each for each in listed if isinstance(each, Pod)),
            contracts,
            ledger,
            migrator=pod.metadata.uid,
            read=lambda each: read_required(each, gate, self._images),
            released=lambda _: False,
        )
        if not living.needed:
            text = f"the pod brings a contract migration of gate {gate.name}, and no living pod needs the old schema"
            return Verdict(Reason.SELF_MIGRATING, Outcome.ADMIT, text, gate.name)
        step = contracts[-1]
        text = still_needed_text(gate.name, step.revision, boundary_of(gate, contracts), living.groups, shown_name)
        return replace(verdict, message=text)

    def _bad_verdict(self, pod: Pod) -> Verdict | None:
        """Return the verdict under Enforce if it is bad; None where it is good, or a ledger was not read yet."""
        decided = self._decide(pod)
        return None if decided is None else decided.final

    def _decide(self, pod: Pod) -> PodVerdict | None:
        enforced = [
            (replace(gate, policy=replace(gate.policy, mode=Mode.ENFORCE)), self._ledgers.snapshot(gate))
            for gate in self._auditing(pod)
        ]
        if not enforced or any(snapshot.fault is Fault.UNREAD for _, snapshot in enforced):
            return None
        decided = decide_pod(pod, enforced, self._now(), self._images)
        return None if decided.final.outcome.good else decided

    def _auditing(self, pod: Pod) -> list[Gate]:
        namespace = pod.metadata.namespace
        admission = self._admission(namespace)
        if admission is OptIn.OFF:
            return []
        gates = self._gates.selecting(namespace, pod.labels)
        return [gate for gate in gates if admission is OptIn.AUDIT or gate.policy.mode is Mode.AUDIT]
