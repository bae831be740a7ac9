"""Held pods, and their release as soon as their verdict is good.

Four things make a pod worth another look: the pod itself, a gate that has changed, a ledger that has changed, and the
label by which its namespace opted in. Each look is the same pure decision that admission makes, over what is cached.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import count
from typing import Protocol

from webhook.api.namespace import OptIn
from webhook.api.objects import Metadata, Pod
from webhook.cache.namespaces import NamespaceCache
from webhook.controller.audit_events import AuditEvents
from webhook.controller.events import Event, EventSink, Reference
from webhook.controller.held_pods import HeldCount, HeldPod, HeldPods
from webhook.controller.rollout_events import RolloutApi, RolloutEvents
from webhook.core.gate import Gate
from webhook.core.patches import Patch, release_patch
from webhook.core.pod_verdict import decide_pod
from webhook.core.status import format_duration
from webhook.core.verdict import Outcome, Reason, Verdict
from webhook.kube.errors import ClusterError, NotFound
from webhook.kube.reflector import Feed, Reflector
from webhook.ledgers.registry import GateCache
from webhook.telemetry import Telemetry, log_event

PARALLEL_PATCHES = 32
"""Requests to the API server at a time; more of them only queue in its fair queuing, fewer keep a rollout waiting."""

UNSELECTED_SECONDS = 10.0
"""How long a pod that declares a revision, and that no LedgerGate was ever seen to select, waits for one. Helm creates
Deployments before custom resources, seconds apart. A gate that is deleted lets its pods go at once: that it was meant
is told by the watch. A finalizer would tell it even where no controller runs; but then no namespace with a LedgerGate
could be deleted while ledgergate is down or already uninstalled, and that hurts more than these seconds."""

OVERDUE_CHECK = 1.0
"""Seconds between two looks for pods that are held for too long."""

RETRY_SECONDS = (0.05, 2.0)


class PodApi(RolloutApi, Protocol):
    """What a release needs of the cluster."""

    def unbound_pods(self) -> Feed[Pod]:
        """Every pod without a node."""

    async def patch_pod(self, pod: Metadata, patch: Patch) -> None:
        """Apply a JSON patch to a pod."""


class ReleaseReconciler:
    """Every held pod of the cluster.

    Args:
        guard: the gates and their ledgers.
        namespaces: which have opted in.
        on_count: called with each gate whose number of held pods, or of those held too long, may have changed.
        tell: says in an Event what happened.
        now: the clock, aware.
        monotonic: seconds of a clock that never jumps, for durations.
    """

    def __init__(
        self,
        actions: PodApi,
        guard: GateCache,
        namespaces: NamespaceCache,
        telemetry: Telemetry,
        *,
        on_count: Callable[[Gate], None],
        tell: EventSink,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._actions = actions
        self._guard = guard
        self._namespaces = namespaces
        self._telemetry = telemetry
        self._on_count = on_count
        self._tell = tell
        self._now = now
        self._monotonic = monotonic
        self._pods = Reflector(actions.unbound_pods(), self._pod_changed)
        self._held = HeldPods(guard)
        self._audit = AuditEvents(guard, tell, admission=namespaces.label, now=now)
        self._rollouts = RolloutEvents(actions, tell)
        self._releasing: set[str] = set()
        self._slots = asyncio.Semaphore(PARALLEL_PATCHES)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._pods.run())
            # Until every gate is known, a pod that no gate seems to select may still be somebody's.
            await self._guard.wait_synced()
            for namespace in self._held.namespaces:
                self.look(namespace)
            while True:
                await asyncio.sleep(OVERDUE_CHECK)
                self._tell_overdue()

    @property
    def saturated(self) -> bool:
        """Whether as many pods are being released at once as may be: what is less urgent should wait."""
        return self._slots.locked()

    def count(self, gate: Gate) -> HeldCount:
        """How many pods wait for a gate, and how many of them for too long."""
        return self._held.count(gate, self._now())

    def look(self, namespace: str) -> None:
        """Look at every held pod of a namespace again."""
        for held in self._held.of(namespace):
            self._look(held)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None:
            return
        held = self._held.get(pod.metadata.key)
        if held is not None and (new is None or not new.held or new.metadata.uid != held.pod.metadata.uid):
            self._held.remove(held)
            self._releasing.discard(held.pod.metadata.uid)
            self._recount(held.pod)
            held = None
        if new is None:
            return
        if not new.held:
            if old is None and self._guard.synced and self._audit.concerns(new):
                self._group.create_task(self._audit.look(new))
            return
        if held is None:
            held = HeldPod(new, self._monotonic(), _created(new, self._now()))
            self._held.add(held)
            self._recount(new)
        else:
            held.pod = new
        self._look(held)

    def _recount(self, pod: Pod) -> None:
        for gate in self._guard.selecting(pod.metadata.namespace, pod.labels):
            self._on_count(gate)

    def _look(self, held: HeldPod) -> None:
        uid = held.pod.metadata.uid
        if uid in self._releasing or not self._guard.synced:
            return
        verdict = self._verdict(held)
        held.claimed = held.claimed or verdict.reason is not Reason.UNSELECTED
        if self._may_go(held, verdict):
            self._releasing.add(uid)
            self._group.create_task(self._release(held))
        elif (verdict.gate, verdict.reason) not in held.told:
            held.told.add((verdict.gate, verdict.reason))
            self._tell(Event(Reference.pod(held.pod.metadata), "Hold", "Held", verdict.message))
            self._group.create_task(self._rollouts.held(held.pod.metadata, verdict.message))

    def _verdict(self, held: HeldPod) -> Verdict:
        namespace = held.pod.metadata.namespace
        if self._namespaces.admission(namespace, held.since) is not OptIn.ENABLED:
            text = f"namespace {namespace} has opted out of enforcement: the pod starts"
            return Verdict(Reason.UNSELECTED, Outcome.ADMIT, text)
        return decide_pod(held.pod, self._guard.guarding(namespace, held.pod.labels), self._now()).final

    def _may_go(self, held: HeldPod, verdict: Verdict) -> bool:
        """Tell whether a pod may run; one whose gate may still be on its way is looked at again when it is late."""
        if verdict.outcome.good or verdict.reason is not Reason.UNSELECTED:
            return verdict.outcome.good
        if self._guard.blind(held.pod.metadata.namespace):
            return False  # a gate is there that we cannot read: perhaps it selects the pod
        left = 0.0 if held.claimed else held.since + UNSELECTED_SECONDS - self._monotonic()
        if left > 0 and not held.awaited:
            held.awaited = True
            asyncio.get_running_loop().call_later(left, self._look_later, held)
        return left <= 0

    def _look_later(self, held: HeldPod) -> None:
        held.awaited = False  # a timer may be a moment early (uvloop rounds it); then it is set again
        if self._held.get(held.pod.metadata.key) is held:
            self._look(held)

    async def _release(self, held: HeldPod) -> None:
        """Take our gate off one pod, as often as it takes, while it is held and its verdict stays good."""
        uid = held.pod.metadata.uid
        for pause in _pauses():
            async with self._slots:
                verdict = self._verdict(held)
                if uid not in self._releasing or not self._may_go(held, verdict):
                    break
                try:
                    await self._actions.patch_pod(held.pod.metadata, release_patch(held.pod))
                except NotFound:
                    break
                except ClusterError as error:
                    # A patch whose test failed means that the pod has changed; the watch brings it for the next try.
                    name = "/".join(held.pod.metadata.key)
                    log_event("pod.release_failed", level=logging.WARNING, pod=name, error=str(error))
                else:
                    self._released(held, verdict)
                    return  # the pod is off the list, and off `_releasing`, when the watch says so
            await asyncio.sleep(pause)
        self._releasing.discard(uid)

    def _released(self, held: HeldPod, verdict: Verdict) -> None:
        seconds = self._monotonic() - held.since
        namespace, name = held.pod.metadata.key
        self._telemetry.hold_duration.observe(seconds)
        self._telemetry.releases.labels(namespace, verdict.gate, "gate").inc()
        log_event(
            "pod.released",
            namespace=namespace,
            pod=name,
            gate=verdict.gate,
            reason=verdict.reason,
            held_ms=round(seconds * 1000),
        )
        if held.told:
            self._tell(Event(Reference.pod(held.pod.metadata), "Release", "Released", _parting(held, verdict)))

    def _tell_overdue(self) -> None:
        for held, gate, verdict in self._held.grown_overdue(self._now()):
            limit = format_duration(gate.policy.max_hold)
            note = f"held by LedgerGate {gate.name} for longer than {limit}: {verdict.message}"
            self._tell(
                Event(Reference.pod(held.pod.metadata), "Hold", "HeldTooLong", note, warning=True, once=gate.name)
            )
            self._on_count(gate)


def _parting(held: HeldPod, verdict: Verdict) -> str:
    """Say why a pod may go; one that no gate selects was told what it waits for, and it did not come."""
    if verdict.outcome.good:
        return verdict.message
    return f"no LedgerGate {'selects it any more' if held.claimed else 'has come to select it'}: the pod starts"


def _created(pod: Pod, now: datetime) -> datetime:
    stamp = pod.metadata.creation_timestamp
    return datetime.fromisoformat(stamp) if stamp else now


def _pauses() -> Iterable[float]:
    """Seconds between tries, doubling up to a limit, jittered so that a thousand releases do not retry as one."""
    first, longest = RETRY_SECONDS
    return (min(longest, first * 2 ** min(attempt, 8)) * random.uniform(0.5, 1.0) for attempt in count())  # noqa: S311
