"""Keep the conditions of the pods that carry a readiness gate of ledgergate; written only when they change."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from migrations.core.backoff import Backoff
from webhook.api.namespace import OptIn
from webhook.api.objects import Condition, Metadata, Pod
from webhook.background import start
from webhook.cache.gates import GateCache
from webhook.cache.namespaces import NamespaceCache
from webhook.controller.work_queue import WorkQueue, work_in_parts
from webhook.core.expectation import STATUS_IMAGES, ImageView
from webhook.core.gate import Readiness
from webhook.core.patches import condition_type
from webhook.core.readiness import ReadinessVerdict, assess, requested_gates, unguarded_verdict
from webhook.kube.errors import ClusterError, Conflict, Forbidden, NotFound, Rejected
from webhook.kube.reflector import Feed, Key, Reflector
from webhook.ledgers.registry import LedgerRegistry
from webhook.telemetry import isolated, log_event

PARALLEL_PATCHES = 8
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 4.0
LONGEST_REFUSED_SECONDS = 120.0
"""Longest pause where the API server refuses the condition: one tenant's pods must not use up the requests of all."""

GRACE_SECONDS = 10.0
"""How long a pod must have been seen before its gate counts as gone, or as not selecting it. The webhook, which put the
readiness gate on, may know of a LedgerGate moments before the controller does; and True under ``Latch`` is final."""


class ReadinessApi(Protocol):
    """Where pods with the label are watched, and their conditions written."""

    def gated_pods(self) -> Feed[Pod]:
        """Return the feed of the pods with ledgergate's label."""

    async def patch_pod_conditions(self, pod: Metadata, conditions: Sequence[Mapping[str, str]]) -> None:
        """Merge conditions into a pod's status."""


@dataclass(slots=True)
class _TrackedPod:
    """A pod with a readiness gate of ledgergate.

    Args:
        first_seen: seconds of the monotonic clock.
        written: what was written, by condition type; the watch may not show it yet.
        writing: a task writes what has changed.
        timer_set: it is reconciled again when the grace has passed.
    """

    pod: Pod
    first_seen: float
    written: dict[str, Condition] = field(default_factory=dict)
    writing: bool = False
    timer_set: bool = False

    def condition(self, kind: str) -> Condition | None:
        """Return one of its conditions: as it was written last, else as the watch shows it."""
        shown = (condition for condition in self.pod.status.conditions or () if condition.type == kind)
        return self.written.get(kind) or next(shown, None)


@contextmanager
def _writing(tracked: _TrackedPod) -> Iterator[None]:
    """Mark a pod as one whose conditions a task writes, until the block ends."""
    try:
        yield
    finally:
        tracked.writing = False


class ReadinessReconciler:
    """Writes the readiness of every pod that asks for it.

    Watches the pods with ledgergate's label. Acts on each change of a pod, and on each change of a gate, a ledger or an
    opt-in that the controller passes on. Writes one condition for each readiness gate.

    Args:
        images: what is known of the pods' images.
        now: the clock, aware.
        monotonic: seconds of the monotonic clock.
    """

    def __init__(
        self,
        api: ReadinessApi,
        gates: GateCache,
        ledgers: LedgerRegistry,
        namespaces: NamespaceCache,
        *,
        images: ImageView = STATUS_IMAGES,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._api = api
        self._gates = gates
        self._ledgers = ledgers
        self._namespaces = namespaces
        self._images = images
        self._now = now
        self._monotonic = monotonic
        self._pods = Reflector(api.gated_pods(), self._pod_changed)
        self._tracked: defaultdict[str, dict[Key, _TrackedPod]] = defaultdict(dict)
        self._slots = asyncio.Semaphore(PARALLEL_PATCHES)
        self._queue = WorkQueue(self._reconcile_pods, interval=0.0, soon=0.0, workers=2)

    async def run(self) -> None:
        """Write conditions until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            # Gates before pods: a pod whose gate is not listed yet would look unguarded, and so ready.
            await self._gates.wait_synced()
            self._group.create_task(self._queue.run())
            await self._pods.run()

    def reconcile_namespace(self, namespace: str) -> None:
        """Assess the tracked pods of a namespace anew, in the background: at once, unless done a moment ago."""
        if self._tracked.get(namespace):
            self._queue.add(namespace)

    async def _reconcile_pods(self, namespace: str) -> float:
        """Assess the tracked pods of a namespace, and return the seconds until it may be done again."""
        return await work_in_parts(tuple(self._tracked.get(namespace, {}).values()), self._reconcile)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None:
            return
        key = pod.metadata.key
        tracked = self._tracked.get(key[0], {}).get(key)
        if tracked is not None and (
            new is None or not requested_gates(new) or new.metadata.uid != tracked.pod.metadata.uid
        ):
            del self._tracked[key[0]][key]
            tracked = None
        if new is None or not requested_gates(new):
            return
        if tracked is None:
            tracked = self._tracked[key[0]][key] = _TrackedPod(new, self._monotonic())
        tracked.pod = new
        self._reconcile(tracked)

    def _reconcile(self, tracked: _TrackedPod) -> None:
        with isolated("pod.condition_failed", pod="/".join(tracked.pod.metadata.key)):
            if not tracked.writing and self._is_tracked(tracked) and self._changed_conditions(tracked):
                tracked.writing = True
                start(self._group, self._write(tracked))

    def _changed_conditions(self, tracked: _TrackedPod) -> list[Condition]:
        """Return the conditions that are to be written."""
        changed = []
        for name in requested_gates(tracked.pod):
            kind = condition_type(name)
            before, verdict = tracked.condition(kind), self._assess(tracked, name)
            if verdict is None:
                continue
            status = str(verdict.status)
            same = before is not None and before.status == status
            since = before.last_transition_time if before is not None and same else None
            changed.append(
                Condition(
                    type=kind,
                    status=status,
                    reason=verdict.reason,
                    message=verdict.message,
                    last_transition_time=since or self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
                )
            )
        return changed

    def _assess(self, tracked: _TrackedPod, name: str) -> ReadinessVerdict | None:
        """Return what a pod's condition for a gate should say; None where it stays as it is."""
        pod = tracked.pod
        namespace = pod.metadata.namespace
        before = tracked.condition(condition_type(name))
        gate = self._gates.gate((namespace, name))
        if self._namespaces.admission(namespace, tracked.first_seen) is not OptIn.ENABLED:
            gate = None
        elif gate is None or gate.policy.readiness is Readiness.OFF or not gate.selector.matches(pod.labels):
            if self._gates.unreadable((namespace, name)) is not None or not self._grace_over(tracked):
                return None
            gate = None
        if gate is None:
            return None if before is not None and before.status == "True" else unguarded_verdict(name)
        return assess(before, pod, gate, self._ledgers.snapshot(gate), self._now(), self._images)

    def _grace_over(self, tracked: _TrackedPod) -> bool:
        left = tracked.first_seen + GRACE_SECONDS - self._monotonic()
        if left > 0 and not tracked.timer_set:
            tracked.timer_set = True
            asyncio.get_running_loop().call_later(left, self._timer_fired, tracked)
        return left <= 0

    def _timer_fired(self, tracked: _TrackedPod) -> None:
        tracked.timer_set = False  # it may fire a moment early (uvloop rounds); then `_grace_over` sets it again
        self._reconcile(tracked)

    async def _write(self, tracked: _TrackedPod) -> None:
        """Write what has changed, until nothing has, or the pod is gone."""
        backoff = Backoff(FIRST_RETRY_SECONDS, LONGEST_REFUSED_SECONDS, jitter=random.random)
        with isolated("pod.condition_failed", pod="/".join(tracked.pod.metadata.key)), _writing(tracked):
            while self._is_tracked(tracked):
                async with self._slots:
                    # With the slot, not before: what is written is what holds now, not when it was enqueued.
                    changed = self._changed_conditions(tracked)
                    if not changed:
                        return
                    error = await self._patch(tracked, changed)
                if error is None:
                    backoff.reset()
                    continue
                longest = LONGEST_REFUSED_SECONDS if isinstance(error, Rejected | Forbidden) else LONGEST_RETRY_SECONDS
                await asyncio.sleep(backoff.next(at_most=longest))

    async def _patch(self, tracked: _TrackedPod, changed: list[Condition]) -> ClusterError | None:
        """Write conditions, and return why that failed; None where it did not."""
        pod = tracked.pod.metadata
        wire = [
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": condition.last_transition_time or "",
            }
            for condition in changed
        ]
        try:
            await self._api.patch_pod_conditions(pod, wire)
        except (NotFound, Conflict) as error:
            # Gone, or (the patch names the uid) replaced by another pod of its name. The watch shows either, and ends
            # the loop in `_write`; until then it retries.
            return error
        except ClusterError as error:
            log_event("pod.condition_failed", level=logging.WARNING, pod="/".join(pod.key), error=str(error))
            return error
        tracked.written.update({condition.type: condition for condition in changed})
        for new in changed:
            log_event("pod.condition", pod="/".join(pod.key), condition=new.type, status=new.status, reason=new.reason)
        return None

    def _is_tracked(self, tracked: _TrackedPod) -> bool:
        """Return whether this is still the pod of its name."""
        key = tracked.pod.metadata.key
        return self._tracked.get(key[0], {}).get(key) is tracked
