"""Wake the owners of denied pods.

A refused ReplicaSet tries again after 5 ms, 10 ms, 20 ms, ... 1000 s; StatefulSets and DaemonSets do the same. Any
change of the owner makes its controller look at once, so it is annotated as soon as its pods would be taken.
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
from webhook.api.owners import Owner, OwnerKind, blames_us, short, stuck
from webhook.core.pod_verdict import decide_pod
from webhook.core.requirement import declares_revision
from webhook.core.verdict import Outcome
from webhook.kube.errors import ClusterError, Forbidden, NotFound
from webhook.ledgers.registry import GateCache
from webhook.telemetry import Telemetry, log_event

PAUSE = 0.5
"""Seconds between two rounds of looking: a run of fifty migrations is a few rounds, not fifty."""

SECOND_LOOK = 1.0
"""Seconds after a change at which owners are looked at once more: a webhook replica may have learned of it later than
we, and have refused the pods of an owner that was woken at once."""

SWEEP_SECONDS = 15.0
"""How often owners are looked for that no change of ours has woken: those that were refused because no webhook answered
(before Kubernetes 1.36), or while no controller led."""

RARELY = 4
"""Sweeps between two wake-ups, at most, of an owner that stays short: it doubles from one to this."""

PARALLEL_PATCHES = 16


class WakeTrigger(Enum):
    """Why owners are looked at."""

    CHANGE = auto()
    SECOND_LOOK = auto()
    SWEEP = auto()


class OwnerApi(Protocol):
    """What waking needs of the cluster."""

    async def owners(self, kind: OwnerKind, namespace: str, *, cached: bool) -> Sequence[Owner]:
        """List a namespace's owners of a kind; ``cached`` where an answer that is some moments old will do."""

    async def wake(self, kind: OwnerKind, owner: Metadata, at: datetime) -> None:
        """Annotate an owner with a time."""


class OwnerWakeup:
    """Owners that are short of pods, woken once for each reason.

    Args:
        admission: what a namespace's label says.
        now: the clock, aware.
    """

    def __init__(
        self,
        actions: OwnerApi,
        guard: GateCache,
        telemetry: Telemetry,
        *,
        admission: Callable[[str], OptIn],
        now: Callable[[], datetime],
    ) -> None:
        self._actions = actions
        self._guard = guard
        self._telemetry = telemetry
        self._admission = admission
        self._now = now
        self._due: set[str] = set()
        self._some_due = asyncio.Event()
        self._naps: dict[tuple[str, OwnerKind], dict[str, _WakeBackoff]] = {}
        self._slots = asyncio.Semaphore(PARALLEL_PATCHES)

    def due(self, namespace: str) -> None:
        """Have a namespace looked at: something has changed that may have let its pods in."""
        self._due.add(namespace)
        self._some_due.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._sweep())
            while True:
                await self._some_due.wait()
                self._some_due.clear()
                due, self._due = self._due, set()
                await asyncio.gather(*(self._look(namespace, WakeTrigger.CHANGE) for namespace in due))
                self._group.create_task(self._look_again(due))
                await asyncio.sleep(PAUSE)

    async def _look_again(self, namespaces: set[str]) -> None:
        await asyncio.sleep(SECOND_LOOK)
        await asyncio.gather(*(self._look(namespace, WakeTrigger.SECOND_LOOK) for namespace in namespaces))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for namespace in self._guard.namespaces:
                await self._look(namespace, WakeTrigger.SWEEP)

    async def _look(self, namespace: str, occasion: WakeTrigger) -> None:
        if self._admission(namespace) is not OptIn.OFF:
            await asyncio.gather(*(self._look_at(kind, namespace, occasion) for kind in OwnerKind))

    async def _look_at(self, kind: OwnerKind, namespace: str, occasion: WakeTrigger) -> None:
        try:
            found = await self._actions.owners(kind, namespace, cached=occasion is WakeTrigger.SWEEP)
        except ClusterError as error:
            log_event("owners.unreadable", level=logging.WARNING, namespace=namespace, kind=kind, error=str(error))
            if occasion is WakeTrigger.CHANGE and not isinstance(error, Forbidden):
                self.due(namespace)
            return
        ready = [owner for owner in found if self._would_be_taken(kind, namespace, owner)]
        before = self._naps.get((namespace, kind), {})
        # An owner that is no longer short, or is gone, is forgotten: the next time it is short is another story.
        naps = self._naps[namespace, kind] = {
            owner.metadata.uid: before[owner.metadata.uid] for owner in ready if owner.metadata.uid in before
        }
        wanted = [owner for owner in ready if _is_time(kind, owner, occasion, naps)]
        await asyncio.gather(*(self._wake(kind, owner, naps) for owner in wanted))

    def _would_be_taken(self, kind: OwnerKind, namespace: str, owner: Owner) -> bool:
        """Tell whether pods are missing that concern us, and that would not be denied now."""
        if not short(kind, owner):
            return False
        pod = owner.spec.template
        guarding = self._guard.guarding(namespace, pod.labels)
        if any(snapshot.fault is Fault.UNREAD for _, snapshot in guarding):
            return False  # when it is read, that is a change
        ours = bool(guarding) or declares_revision(pod) or blames_us(owner)
        return ours and decide_pod(pod, guarding, self._now()).final.outcome is not Outcome.DENY

    async def _wake(self, kind: OwnerKind, owner: Owner, naps: "dict[str, _WakeBackoff]") -> None:
        namespace, name = owner.metadata.key
        try:
            async with self._slots:
                await self._actions.wake(kind, owner.metadata, self._now())
        except NotFound:
            return
        except ClusterError as error:
            log_event("owner.wake_failed", level=logging.WARNING, namespace=namespace, owner=name, error=str(error))
            naps.pop(owner.metadata.uid, None)  # the next look tries again
            return
        self._telemetry.wakeups.inc()
        log_event("owner.woken", namespace=namespace, kind=kind, owner=name)


@dataclass(slots=True)
class _WakeBackoff:
    """How long an owner that was woken is left alone, in sweeps."""

    generation: int
    left: int = 0
    pause: int = 2

    def over(self) -> bool:
        """Tell, at each sweep, whether this is the one; if so, the next is farther away."""
        if self.left:
            self.left -= 1
            return False
        self.left = self.pause - 1
        self.pause = min(self.pause * 2, RARELY)
        return True


def _is_time(kind: OwnerKind, owner: Owner, occasion: WakeTrigger, naps: dict[str, _WakeBackoff]) -> bool:
    """Tell whether to wake it now: once after a change; again, ever more seldom, only where it is plainly stuck."""
    nap = naps.get(owner.metadata.uid)
    if nap is None or nap.generation != owner.metadata.generation:
        if occasion is not WakeTrigger.CHANGE and not stuck(kind, owner):
            return False
        naps[owner.metadata.uid] = _WakeBackoff(owner.metadata.generation)
        return True
    if occasion is WakeTrigger.CHANGE or not stuck(kind, owner):
        return False
    return occasion is WakeTrigger.SECOND_LOOK or nap.over()
