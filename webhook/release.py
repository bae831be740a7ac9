"""Held pods, and their release as soon as their verdict is good.

Three things make a pod worth another look: the pod itself, a gate that has changed, a ledger that has changed. Each
look is the same pure decision that admission makes, over what is cached.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Protocol

from webhook.errors import ClusterError, NotFound
from webhook.events import Happening
from webhook.gate import Gate
from webhook.guard import Guard
from webhook.judgement import judge
from webhook.objects import Metadata, Pod
from webhook.reflector import Feed, Key, Reflector
from webhook.review import Patch, release_patch
from webhook.telemetry import Telemetry, event
from webhook.verdict import Reason, Verdict

PARALLEL_PATCHES = 32
"""Requests to the API server at a time; more of them only queue in its fair queuing, fewer keep a rollout waiting."""

UNSELECTED_SECONDS = 10.0
"""How long a pod that declares a revision waits for a LedgerGate to select it. Helm creates Deployments before custom
resources, seconds apart; and a gate that was deleted, not forgotten, delays pods no longer than this."""

RETRY_SECONDS = (0.05, 2.0)


class PodActions(Protocol):
    """What a release needs of the cluster."""

    def unbound_pods(self) -> Feed[Pod]:
        """Every pod without a node."""

    async def patch_pod(self, pod: Metadata, patch: Patch) -> None:
        """Apply a JSON patch to a pod."""


@dataclass(slots=True)
class _Held:
    pod: Pod
    since: float
    told: str = ""  # what was last said of it in an Event
    awaited: bool = False  # somebody looks at it again when its gate is late


class Releases:
    """Every held pod of the cluster.

    Args:
        guard: the gates and their ledgers.
        on_count: called with each gate whose number of held pods may have changed.
        tell: says in an Event what happened to a pod.
        now: the clock, aware.
        monotonic: seconds of a clock that never jumps, for durations.
    """

    def __init__(
        self,
        actions: PodActions,
        guard: Guard,
        telemetry: Telemetry,
        *,
        on_count: Callable[[Gate], None],
        tell: Callable[[Happening, datetime], None],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._actions = actions
        self._guard = guard
        self._telemetry = telemetry
        self._on_count = on_count
        self._tell = tell
        self._now = now
        self._monotonic = monotonic
        self._pods = Reflector(actions.unbound_pods(), self._pod_changed)
        self._held: defaultdict[str, dict[Key, _Held]] = defaultdict(dict)
        self._releasing: set[str] = set()
        self._slots = asyncio.Semaphore(PARALLEL_PATCHES)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._pods.run())
            # Until every gate is known, a pod that no gate seems to select may still be somebody's.
            await self._guard.wait_synced()
            for namespace in tuple(self._held):
                self.look(namespace)

    def count(self, gate: Gate) -> int:
        """How many held pods a gate selects."""
        return sum(gate.selector.matches(held.pod.labels) for held in self._in(gate.namespace).values())

    def look(self, namespace: str) -> None:
        """Look at every held pod of a namespace again."""
        for held in tuple(self._in(namespace).values()):
            self._look(held)

    def _in(self, namespace: str) -> Mapping[Key, _Held]:
        return self._held.get(namespace, {})

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        if pod is None:
            return
        key = pod.metadata.key
        before = self._in(key[0]).get(key)
        if before is not None and (new is None or not new.held or new.metadata.uid != before.pod.metadata.uid):
            del self._held[key[0]][key]
            self._releasing.discard(before.pod.metadata.uid)
            self._recount(before.pod)
            before = None
        if new is None or not new.held:
            return
        if before is None:
            held = self._held[key[0]][key] = _Held(new, self._monotonic())
            self._recount(new)
        else:
            held, held.pod = before, new
        self._look(held)

    def _recount(self, pod: Pod) -> None:
        for gate in self._guard.selecting(pod.metadata.namespace, pod.labels):
            self._on_count(gate)

    def _look(self, held: _Held) -> None:
        uid = held.pod.metadata.uid
        if uid in self._releasing or not self._guard.synced:
            return
        verdict = self._verdict(held.pod)
        if self._may_go(held, verdict):
            self._releasing.add(uid)
            self._group.create_task(self._release(held))
        elif held.told != verdict.message:
            held.told = verdict.message
            self._tell(Happening(held.pod.metadata, "Hold", "Held", verdict.message), self._now())

    def _verdict(self, pod: Pod) -> Verdict:
        gates = self._guard.selecting(pod.metadata.namespace, pod.labels)
        return judge(pod, [(gate, self._guard.reading(gate)) for gate in gates], self._now())

    def _may_go(self, held: _Held, verdict: Verdict) -> bool:
        """Tell whether a pod may run; one whose gate may still be on its way is looked at again when it is late."""
        if verdict.outcome.good or verdict.reason is not Reason.UNSELECTED:
            return verdict.outcome.good
        left = held.since + UNSELECTED_SECONDS - self._monotonic()
        if left > 0 and not held.awaited:
            held.awaited = True
            asyncio.get_running_loop().call_later(left, self._look_later, held)
        return left <= 0

    def _look_later(self, held: _Held) -> None:
        if self._in(held.pod.metadata.namespace).get(held.pod.metadata.key) is held:
            self._look(held)

    async def _release(self, held: _Held) -> None:
        """Take our gate off one pod, as often as it takes, while it is held and its verdict stays good."""
        uid = held.pod.metadata.uid
        for pause in _pauses():
            verdict = self._verdict(held.pod)
            if uid not in self._releasing or not self._may_go(held, verdict):
                break
            try:
                async with self._slots:
                    await self._actions.patch_pod(held.pod.metadata, release_patch(held.pod))
            except NotFound:
                break
            except ClusterError as error:
                # A patch whose test failed means that the pod has changed; the watch brings it for the next try.
                name = "/".join(held.pod.metadata.key)
                event("pod.release_failed", level=logging.WARNING, pod=name, error=str(error))
                await asyncio.sleep(pause)
            else:
                self._released(held, verdict)
                return  # the pod is off the list, and off `_releasing`, when the watch says so
        self._releasing.discard(uid)

    def _released(self, held: _Held, verdict: Verdict) -> None:
        seconds = self._monotonic() - held.since
        namespace, name = held.pod.metadata.key
        self._telemetry.hold_duration.observe(seconds)
        self._telemetry.releases.labels(namespace, verdict.gate, "gate").inc()
        event(
            "pod.released",
            namespace=namespace,
            pod=name,
            gate=verdict.gate,
            reason=verdict.reason,
            held_ms=round(seconds * 1000),
        )
        if held.told:
            self._tell(Happening(held.pod.metadata, "Release", "Released", verdict.message), self._now())


def _pauses() -> Iterable[float]:
    """Seconds between tries, doubling up to a limit, jittered so that a thousand releases do not retry as one."""
    first, longest = RETRY_SECONDS
    return (min(longest, first * 2 ** min(attempt, 8)) * random.uniform(0.5, 1.0) for attempt in count())  # noqa: S311
