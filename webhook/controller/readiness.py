"""Keep the conditions of the pods that carry a readiness gate of ours; written when they change, and only then."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from webhook.api.namespace import OptIn
from webhook.api.objects import Condition, Metadata, Pod
from webhook.cache.namespaces import NamespaceCache
from webhook.core.gate import Readiness
from webhook.core.patches import condition_type
from webhook.core.readiness import ReadinessVerdict, assess, requested_gates, unguarded_verdict
from webhook.kube.errors import ClusterError, Conflict, NotFound
from webhook.kube.reflector import Feed, Key, Reflector
from webhook.ledgers.registry import GateCache
from webhook.telemetry import log_event

PARALLEL_PATCHES = 8
RETRY_SECONDS = 1.0

GRACE_SECONDS = 10.0
"""How long a pod was seen before its gate counts as gone, or as not selecting it. The webhook, which asked for its
readiness, may know of a gate some moments before we do; and what is said once under ``Latch`` is said for good."""


class ReadinessApi(Protocol):
    """What readiness needs of the cluster."""

    def gated_pods(self) -> Feed[Pod]:
        """Every pod with our label."""

    async def patch_pod_conditions(self, pod: Metadata, conditions: Sequence[Mapping[str, str]]) -> None:
        """Merge conditions into a pod's status."""


@dataclass(slots=True)
class _TrackedPod:
    """A pod that asks for readiness.

    Args:
        since: when it was first seen, in seconds of a clock that never jumps.
        written: what we have written, which the watch may not have brought yet.
    """

    pod: Pod
    since: float
    written: dict[str, Condition] = field(default_factory=dict)
    writing: bool = False
    awaited: bool = False

    def condition(self, kind: str) -> Condition | None:
        """Return one of its conditions."""
        found = (held for held in self.pod.status.conditions or () if held.type == kind)
        return self.written.get(kind) or next(found, None)


class ReadinessReconciler:
    """The readiness of every pod that asks us for it.

    Args:
        namespaces: which have opted in.
        now: the clock, aware.
        monotonic: seconds of a clock that never jumps.
    """

    def __init__(
        self,
        actions: ReadinessApi,
        guard: GateCache,
        namespaces: NamespaceCache,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._actions = actions
        self._guard = guard
        self._namespaces = namespaces
        self._now = now
        self._monotonic = monotonic
        self._pods = Reflector(actions.gated_pods(), self._pod_changed)
        self._followers: defaultdict[str, dict[Key, _TrackedPod]] = defaultdict(dict)
        self._slots = asyncio.Semaphore(PARALLEL_PATCHES)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await self._guard.wait_synced()
            await self._pods.run()

    def look(self, namespace: str) -> None:
        """Look at every pod of a namespace again."""
        for follower in tuple(self._followers.get(namespace, {}).values()):
            self._look(follower)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None:
            return
        key = pod.metadata.key
        follower = self._followers.get(key[0], {}).get(key)
        if follower is not None and (
            new is None or not requested_gates(new) or new.metadata.uid != follower.pod.metadata.uid
        ):
            del self._followers[key[0]][key]
            follower = None
        if new is None or not requested_gates(new):
            return
        if follower is None:
            follower = self._followers[key[0]][key] = _TrackedPod(new, self._monotonic())
        follower.pod = new
        self._look(follower)

    def _look(self, follower: _TrackedPod) -> None:
        if not follower.writing and self._current(follower) and self._news(follower):
            follower.writing = True
            self._group.create_task(self._write(follower))

    def _news(self, follower: _TrackedPod) -> list[Condition]:
        """Return the conditions that should say something else than they do."""
        found = []
        for name in requested_gates(follower.pod):
            kind = condition_type(name)
            before, ready = follower.condition(kind), self._assess(follower, name)
            if ready is None:
                continue
            status = str(ready.status)
            same = before is not None and before.status == status
            since = before.last_transition_time if before is not None and same else None
            stamp = since or self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
            found.append(
                Condition(
                    type=kind, status=status, reason=ready.reason, message=ready.message, last_transition_time=stamp
                )
            )
        return found

    def _assess(self, follower: _TrackedPod, name: str) -> ReadinessVerdict | None:
        pod = follower.pod
        namespace = pod.metadata.namespace
        before = follower.condition(condition_type(name))
        gate = self._guard.gate((namespace, name))
        if self._namespaces.admission(namespace, follower.since) is not OptIn.ENABLED:
            gate = None
        elif gate is None or gate.policy.readiness is Readiness.OFF or not gate.selector.matches(pod.labels):
            if self._guard.unreadable((namespace, name)) is not None or not self._old_enough(follower):
                return None
            gate = None
        if gate is None:
            return None if before is not None and before.status == "True" else unguarded_verdict(name)
        return assess(before, pod, gate, self._guard.snapshot(gate), self._now())

    def _old_enough(self, follower: _TrackedPod) -> bool:
        left = follower.since + GRACE_SECONDS - self._monotonic()
        if left > 0 and not follower.awaited:
            follower.awaited = True
            asyncio.get_running_loop().call_later(left, self._look_later, follower)
        return left <= 0

    def _look_later(self, follower: _TrackedPod) -> None:
        follower.awaited = False  # a timer may be a moment early (uvloop rounds it); then it is set again
        self._look(follower)

    async def _write(self, follower: _TrackedPod) -> None:
        """Write what is news, as long as there is any and the pod is there."""
        try:
            while self._current(follower):
                async with self._slots:
                    news = self._news(follower)
                    if not news:
                        return
                    done = await self._patched(follower, news)
                if not done:
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            follower.writing = False

    async def _patched(self, follower: _TrackedPod, news: list[Condition]) -> bool:
        """Write conditions; tell whether that worked."""
        pod = follower.pod.metadata
        wire = [
            {
                "type": one.type,
                "status": one.status,
                "reason": one.reason,
                "message": one.message,
                "lastTransitionTime": one.last_transition_time or "",
            }
            for one in news
        ]
        try:
            await self._actions.patch_pod_conditions(pod, wire)
        except (NotFound, Conflict):
            return False  # it is gone, or another pod has its name: the watch will tell
        except ClusterError as error:
            log_event("pod.condition_failed", level=logging.WARNING, pod="/".join(pod.key), error=str(error))
            return False
        follower.written.update({one.type: one for one in news})
        for one in news:
            log_event("pod.condition", pod="/".join(pod.key), condition=one.type, status=one.status, reason=one.reason)
        return True

    def _current(self, follower: _TrackedPod) -> bool:
        key = follower.pod.metadata.key
        return self._followers.get(key[0], {}).get(key) is follower
