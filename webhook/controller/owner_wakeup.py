"""Wake the owners of denied pods.

A refused ReplicaSet tries again after 5 ms, 10 ms, 20 ms, ... 1000 s; StatefulSets and DaemonSets do the same. Any
change of the owner makes its controller try at once, so the owner is annotated as soon as its pods would be admitted.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from migrations.core.snapshot import Fault
from webhook.api.namespace import OptIn
from webhook.api.objects import Metadata
from webhook.api.owners import Owner, OwnerKind, waits_for_retry, was_refused_by_ledgergate
from webhook.cache.gates import GateCache
from webhook.controller.work_queue import WorkQueue
from webhook.core.expectation import STATUS_IMAGES, ImageView
from webhook.core.pod_verdict import decide_pod
from webhook.core.requirement import declares_revision
from webhook.core.verdict import Outcome
from webhook.kube.errors import ClusterError, NotFound, Unavailable
from webhook.kube.reflector import Key
from webhook.ledgers.registry import LedgerRegistry
from webhook.telemetry import Telemetry, isolated, log_event

INTERVAL_SECONDS = 0.5
"""Between two checks of one namespace: a run of fifty migrations is a few of them, not fifty."""

PARALLEL_CHECKS = 16

RECHECK_SECONDS = 1.0
"""From a change until owners are checked once more. Each webhook replica has a watch of its own: one may have learned
of the new status late, and have refused the pods of an owner that was woken at once."""

SWEEP_SECONDS = 15.0
"""Between two sweeps for owners that no change has woken: those that were refused because no webhook answered (before
Kubernetes 1.36), or while no controller led."""

NAMESPACES_APART = 8
"""Namespaces up to which a sweep lists the owners of each; of more, it lists those of the whole cluster at once: four
requests, and not four for each of a thousand namespaces."""

MAX_BACKOFF_SWEEPS = 4
"""Between two wake-ups of an owner that stays short of pods, at most; the back-off doubles from one sweep to this."""

PARALLEL_PATCHES = 16


class WakeTrigger(Enum):
    """Why owners are checked."""

    CHANGE = auto()
    RECHECK = auto()
    SWEEP = auto()


class OwnerApi(Protocol):
    """Where owners of pods are listed and annotated."""

    async def owners_short_of_pods(self, kind: OwnerKind, namespace: str, *, cached: bool) -> Sequence[Owner]:
        """List a namespace's owners of a kind that lack pods; those of all namespaces where it is empty.

        Args:
            cached: an answer that is some moments old will do.
        """

    async def wake(self, kind: OwnerKind, owner: Metadata, at: datetime) -> None:
        """Annotate an owner with a time."""


class OwnerWakeup:
    """Wakes owners that are short of pods, once for each reason.

    Watches nothing: owners are listed when a change in their namespace may have let their pods in, again a second
    later, and in each sweep. Writes an annotation on an owner.

    Args:
        images: what is known of the pods' images.
        admission: what a namespace's label says.
        now: the clock, aware.
    """

    def __init__(
        self,
        api: OwnerApi,
        gates: GateCache,
        ledgers: LedgerRegistry,
        telemetry: Telemetry,
        *,
        images: ImageView = STATUS_IMAGES,
        admission: Callable[[str], OptIn],
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._gates = gates
        self._ledgers = ledgers
        self._telemetry = telemetry
        self._images = images
        self._admission = admission
        self._now = now
        self._queue = WorkQueue(self._check, interval=INTERVAL_SECONDS, soon=INTERVAL_SECONDS, workers=PARALLEL_CHECKS)
        self._denied: dict[tuple[str, OwnerKind], set[Key]] = {}
        self._recheck_queue = WorkQueue(self._recheck, interval=0.0, soon=0.0, workers=PARALLEL_CHECKS)
        self._recheck_timers: dict[str, asyncio.TimerHandle] = {}
        self._backoffs: dict[tuple[str, OwnerKind], dict[str, _WakeBackoff]] = {}
        self._slots = asyncio.Semaphore(PARALLEL_PATCHES)

    def enqueue(self, namespace: str) -> None:
        """Have a namespace reconciled: a change may have let its pods in."""
        self._queue.add(namespace)

    def awaits(self, gate: Key) -> bool:
        """Return whether owners lack pods that a gate denies, as far as was seen."""
        return any(gate in self._denied.get((gate[0], kind), ()) for kind in OwnerKind)

    async def run(self) -> None:
        """Wake owners until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sweep())
                group.create_task(self._queue.run())
                group.create_task(self._recheck_queue.run())
        finally:
            for timer in self._recheck_timers.values():
                timer.cancel()

    async def _check(self, namespace: str) -> None:
        await self._reconcile(namespace, WakeTrigger.CHANGE)
        pending = self._recheck_timers.pop(namespace, None)
        if pending is not None:
            pending.cancel()  # one check after the last of several changes is enough
        timer = asyncio.get_running_loop().call_later(RECHECK_SECONDS, self._enqueue_recheck, namespace)
        self._recheck_timers[namespace] = timer

    def _enqueue_recheck(self, namespace: str) -> None:
        del self._recheck_timers[namespace]
        self._recheck_queue.add(namespace)

    async def _recheck(self, namespace: str) -> None:
        await self._reconcile(namespace, WakeTrigger.RECHECK)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Wake the owners that no change has woken, once."""
        namespaces = self._gates.namespaces
        for gone in [key for key in (*self._denied, *self._backoffs) if key[0] not in namespaces]:
            self._denied.pop(gone, None)
            self._backoffs.pop(gone, None)
        watched = {namespace for namespace in namespaces if self._admission(namespace) is not OptIn.OFF}
        if len(watched) <= NAMESPACES_APART:
            for namespace in watched:
                await self._reconcile(namespace, WakeTrigger.SWEEP)
            return
        for kind in OwnerKind:
            with isolated("owners.failed", kind=kind):
                await self._sweep_kind(kind, watched)

    async def _sweep_kind(self, kind: OwnerKind, namespaces: set[str]) -> None:
        """Wake the owners of one kind, in these namespaces."""
        try:
            found = await self._api.owners_short_of_pods(kind, "", cached=True)
        except ClusterError as error:
            log_event("owners.unreadable", level=logging.WARNING, namespace="", kind=kind, error=str(error))
            return
        # Those of a namespace in which no owner is short of pods any more are forgotten too.
        known = {namespace for namespace, each in (*self._denied, *self._backoffs) if each is kind}
        by_namespace: dict[str, list[Owner]] = {namespace: [] for namespace in known & namespaces}
        for owner in found:
            if owner.metadata.namespace in namespaces:
                by_namespace.setdefault(owner.metadata.namespace, []).append(owner)
        for namespace, owners in by_namespace.items():
            with isolated("owners.failed", namespace=namespace):
                await self._wake_chosen(kind, namespace, owners, WakeTrigger.SWEEP)

    async def _reconcile(self, namespace: str, trigger: WakeTrigger) -> None:
        with isolated("owners.failed", namespace=namespace):
            await self._reconcile_kinds(namespace, trigger)

    async def _reconcile_kinds(self, namespace: str, trigger: WakeTrigger) -> None:
        if self._admission(namespace) is not OptIn.OFF:
            await asyncio.gather(*(self._reconcile_kind(kind, namespace, trigger) for kind in OwnerKind))

    async def _reconcile_kind(self, kind: OwnerKind, namespace: str, trigger: WakeTrigger) -> None:
        try:
            # A sweep may read the API server's cache. After a change only a consistent read will do: an owner that was
            # created just before it would be missed, and then wait for the next sweep.
            found = await self._api.owners_short_of_pods(kind, namespace, cached=trigger is WakeTrigger.SWEEP)
        except ClusterError as error:
            log_event("owners.unreadable", level=logging.WARNING, namespace=namespace, kind=kind, error=str(error))
            if trigger is WakeTrigger.CHANGE and isinstance(error, Unavailable):
                self.enqueue(namespace)
            return
        await self._wake_chosen(kind, namespace, found, trigger)

    async def _wake_chosen(self, kind: OwnerKind, namespace: str, found: Sequence[Owner], trigger: WakeTrigger) -> None:
        """Wake those of a namespace's owners, which are short of pods, whose turn it is."""
        self._denied[namespace, kind] = denied = set[Key]()
        ready = [owner for owner in found if self._would_be_admitted(namespace, owner, denied)]
        for gate in denied:
            self._ledgers.set_urgent(gate, urgent=True)  # no pod shows that it waits: a denied one does not exist
        if not denied:
            del self._denied[namespace, kind]
        before = self._backoffs.get((namespace, kind), {})
        # An owner that is gone, or short of pods no more, is forgotten: the next time, it is woken without back-off.
        backoffs = self._backoffs[namespace, kind] = {
            owner.metadata.uid: before[owner.metadata.uid] for owner in ready if owner.metadata.uid in before
        }
        chosen = [owner for owner in ready if _should_wake(kind, owner, trigger, backoffs)]
        await asyncio.gather(*(self._wake(kind, owner, backoffs) for owner in chosen))
        if not backoffs and self._backoffs.get((namespace, kind)) is backoffs:
            del self._backoffs[namespace, kind]

    def _would_be_admitted(self, namespace: str, owner: Owner, denied: set[Key]) -> bool:
        """Return whether the pods that an owner lacks are ones that ledgergate decides about and would not deny now.

        Args:
            denied: the gates that would deny them are added to it.
        """
        pod = owner.spec.template
        selecting = self._ledgers.gates_with_snapshots(namespace, pod.labels)
        if any(snapshot.fault is Fault.UNREAD for _, snapshot in selecting):
            return False  # the first reading will be a change
        concerned = bool(selecting) or declares_revision(pod) or was_refused_by_ledgergate(owner)
        decided = decide_pod(pod, selecting, self._now(), self._images)
        denied.update(each.gate.key for each in decided.by_gate if each.verdict.outcome is Outcome.DENY)
        return concerned and decided.final.outcome is not Outcome.DENY

    async def _wake(self, kind: OwnerKind, owner: Owner, backoffs: "dict[str, _WakeBackoff]") -> None:
        namespace, name = owner.metadata.key
        try:
            async with self._slots:
                await self._api.wake(kind, owner.metadata, self._now())
        except NotFound:
            return
        except ClusterError as error:
            log_event("owner.wake_failed", level=logging.WARNING, namespace=namespace, owner=name, error=str(error))
            backoffs.pop(owner.metadata.uid, None)  # forgotten, so that the next check tries again
            return
        self._telemetry.wakeups.inc()
        log_event("owner.woken", namespace=namespace, kind=kind, owner=name)


@dataclass(slots=True)
class _WakeBackoff:
    """How long an owner that was woken is left alone.

    Args:
        generation: the owner's; a new template starts anew.
        sweeps_left: sweeps to skip.
        next_interval: sweeps from the next wake-up to the one after it.
    """

    generation: int
    sweeps_left: int = 0
    next_interval: int = 2

    def sweep(self) -> bool:
        """Count a sweep, and return whether the owner is to be woken in it; then the next one is farther away."""
        if self.sweeps_left:
            self.sweeps_left -= 1
            return False
        self.sweeps_left = self.next_interval - 1
        self.next_interval = min(self.next_interval * 2, MAX_BACKOFF_SWEEPS)
        return True


def _should_wake(kind: OwnerKind, owner: Owner, trigger: WakeTrigger, backoffs: dict[str, _WakeBackoff]) -> bool:
    """Return whether to wake an owner now: once after a change; then with back-off, while nothing else holds it up."""
    backoff = backoffs.get(owner.metadata.uid)
    if backoff is None or backoff.generation != owner.metadata.generation:
        if trigger is not WakeTrigger.CHANGE and not waits_for_retry(kind, owner):
            return False
        backoffs[owner.metadata.uid] = _WakeBackoff(owner.metadata.generation)
        return True
    if trigger is WakeTrigger.CHANGE or not waits_for_retry(kind, owner):
        return False
    return trigger is WakeTrigger.RECHECK or backoff.sweep()
