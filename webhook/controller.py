"""Release held pods as soon as their verdict is good, and keep each gate's status.

One leader runs this. Three things make a pod worth another look: the pod itself, a gate that has changed, a ledger that
has changed; each look is the same pure decision that admission makes, over what is cached.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from webhook.admission import judge
from webhook.errors import ClusterError, NotFound
from webhook.guard import Guard, Objects
from webhook.objects import Metadata, Pod
from webhook.reflector import Feed, Key, Reflector
from webhook.review import Patch, release_patch
from webhook.status import GateState, Standing, describe, same
from webhook.telemetry import Telemetry, event
from webhook.verdict import Verdict, strictest

PARALLEL_PATCHES = 32
"""Requests to the API server at a time; more of them only queue in its fair-queuing, less leave a rollout waiting."""

STATUS_SECONDS = 0.5
"""How often statuses are written at most: a thousand pods released at once are two writes, not a thousand."""


class Actions(Objects, Protocol):
    """What the controller reads and does in the cluster."""

    def unbound_pods(self) -> Feed[Pod]:
        """Every pod without a node."""

    async def patch_pod(self, pod: Metadata, patch: Patch) -> None:
        """Apply a JSON patch to a pod."""

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge a LedgerGate's status."""


@dataclass(slots=True)
class _Held:
    pod: Pod
    since: float


class Controller:
    """One term as the leader.

    Args:
        actions: the cluster.
        now: the clock, aware.
        monotonic: seconds of a clock that never jumps, for durations.
    """

    def __init__(
        self,
        actions: Actions,
        identity: str,
        telemetry: Telemetry,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._actions = actions
        self._telemetry = telemetry
        self._now = now
        self._monotonic = monotonic
        self._guard = Guard(actions, identity, self._gate_changed)
        self._pods = Reflector(actions.unbound_pods(), self._pod_changed)
        self._held: defaultdict[str, dict[Key, _Held]] = defaultdict(dict)
        self._releasing: set[str] = set()
        self._slots = asyncio.Semaphore(PARALLEL_PATCHES)
        self._stale: set[Key] = set()
        self._stale_status = asyncio.Event()
        self._written: dict[Key, dict[str, Any]] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._guard.run())
            self._group.create_task(self._pods.run())
            self._group.create_task(self._write_statuses())
            # Until every gate is known a pod that no gate seems to select may still be somebody's.
            await self._guard.wait_synced()
            for held in [held for pods in self._held.values() for held in pods.values()]:
                self._look(held.pod)

    # What makes a pod worth another look.

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        found = new or old
        assert found is not None  # noqa: S101 - a change has an object
        namespace, key = found.metadata.namespace, found.metadata.key
        before = self._held[namespace].get(key)
        if new is None or not new.held:
            if before is not None:
                del self._held[namespace][key]
                self._releasing.discard(before.pod.metadata.uid)
                self._touch(before.pod)
            return
        since = (
            before.since if before is not None and before.pod.metadata.uid == new.metadata.uid else self._monotonic()
        )
        self._held[namespace][key] = _Held(new, since)
        self._touch(new)
        self._look(new)

    def _gate_changed(self, key: Key) -> None:
        self._stale.add(key)
        self._stale_status.set()
        for held in tuple(self._held[key[0]].values()):
            self._look(held.pod)

    def _touch(self, pod: Pod) -> None:
        """A pod came to be held, or is no longer: the gates that select it have another count."""
        for gate in self._guard.selecting(pod.metadata.namespace, pod.labels):
            self._stale.add(gate.key)
            self._stale_status.set()
            if pod.held:
                self._guard.hasten(gate.key, urgent=True)

    # Release.

    def _look(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        if uid not in self._releasing and self._guard.synced and self._verdict(pod).outcome.good:
            self._releasing.add(uid)
            self._group.create_task(self._release(pod.metadata.key, uid))

    def _verdict(self, pod: Pod) -> Verdict:
        gates = self._guard.selecting(pod.metadata.namespace, pod.labels)
        return strictest(judge(pod, [(gate, self._guard.reading(gate)) for gate in gates], self._now()))

    async def _release(self, key: Key, uid: str) -> None:
        """Take our gate off one pod, as often as it takes, for as long as its verdict stays good."""
        for attempt in range(1_000_000):
            held = self._held[key[0]].get(key)
            if held is None or held.pod.metadata.uid != uid:
                break
            verdict = self._verdict(held.pod)
            if not verdict.outcome.good:
                break
            try:
                async with self._slots:
                    await self._actions.patch_pod(held.pod.metadata, release_patch(held.pod))
            except NotFound:
                break
            except ClusterError as error:
                # A rejected test means that the pod has changed; the watch brings it, and the next try has it.
                event("pod.release_failed", level=logging.WARNING, pod="/".join(key), error=str(error))
                await asyncio.sleep(min(2.0, 0.05 * 2 ** min(attempt, 6)) * random.uniform(0.5, 1))  # noqa: S311
                continue
            self._released(held, verdict)
            return  # the watch takes it off the list
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

    # Status.

    async def _write_statuses(self) -> None:
        while True:
            await self._stale_status.wait()
            self._stale_status.clear()
            keys, self._stale = self._stale, set()
            for key in keys:
                await self._write_status(key)
            await asyncio.sleep(STATUS_SECONDS)

    async def _write_status(self, key: Key) -> None:
        gate = self._guard.gate(key)
        if gate is None:
            self._forget(key)
            return
        held = sum(gate.selector.matches(held.pod.labels) for held in self._held[key[0]].values())
        self._guard.hasten(key, urgent=held > 0)
        standing = Standing(self._guard.reading(gate), self._guard.problems(key), held)
        self._measure(key, standing)
        status = describe(standing, gate, self._now())
        before = self._written.get(key, {})
        if same(status, before):
            return
        try:
            await self._actions.patch_gate_status(*key, status)
        except NotFound:
            return
        except ClusterError as error:
            event("gate.status_failed", level=logging.WARNING, gate="/".join(key), error=str(error))
            self._stale.add(key)
            self._stale_status.set()
            return
        if before.get("state") != status["state"]:
            event("gate.state", gate="/".join(key), state=status["state"], message=status["conditions"][0]["message"])
        self._written[key] = status

    def _measure(self, key: Key, standing: Standing) -> None:
        for state in GateState:
            self._telemetry.gate_state.labels(*key, state).set(state is standing.state)
        self._telemetry.held.labels(*key).set(standing.held)
        if standing.reading.ledger is not None:
            self._telemetry.applied.labels(*key).set(len(standing.reading.ledger.applied))

    def _forget(self, key: Key) -> None:
        self._written.pop(key, None)
        self._telemetry.forget_gate(*key)
