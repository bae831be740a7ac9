"""Keep each gate's status, metrics and Events up to date, with few requests to the API server."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from migrations.core.backoff import Backoff
from webhook.cache.gates import GateCache
from webhook.controller.events import Event, EventSink, Reference
from webhook.controller.gate_events import GateEvent, gate_events, unreadable_event
from webhook.controller.held_pods import HeldCount
from webhook.controller.work_queue import WorkQueue
from webhook.core.gate import Gate
from webhook.core.status import GateObservation, GateState, PreviousStatus, Problem, build_status, is_same_status
from webhook.kube.errors import ClusterError, NotFound, Rejected
from webhook.kube.reflector import Key
from webhook.ledgers.registry import LedgerRegistry
from webhook.telemetry import Telemetry, isolated, log_event

INTERVAL_SECONDS = 0.5
"""Between two writes of one gate's status: a thousand pods released at once are two writes, not a thousand."""

CHANGE_INTERVAL_SECONDS = 0.1
"""The same where the gate or its ledger has changed: admission decides by what is written."""

PARALLEL_WRITES = 8

LONGEST_RETRY_SECONDS = 120.0
"""Pause that failed writes of one gate's status grow to. A change of the gate or its ledger tries again at once."""


SURPLUS = Problem(
    "the namespace has more LedgerGates than the controller's --gates-per-namespace allows, and this one is among the "
    "newest: it selects no pod; delete some of them"
)


class StatusApi(Protocol):
    """Where statuses are written."""

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge a LedgerGate's status."""


class ImageStatus(Protocol):
    """What a status says of images."""

    def status(self, gate: Gate) -> dict[str, Any]:
        """Return the fields of a gate's status that are about images."""

    def unresolved(self, gate: Key) -> int:
        """Return how many images that pods of a gate wait for could not be read."""

    def forget(self, gate: Key) -> None:
        """Forget the images of a gate that was deleted."""


class StatusReconciler:
    """Writes statuses.

    Watches nothing itself: a gate is enqueued when it, its ledger or its held pods have changed, or its bypass ends.
    Writes a gate's status where it has changed, its metrics, and Events on it.

    Args:
        images: what is known of the images of a gate's pods.
        count: how many pods a gate holds.
        awaited: whether a gate is waited for by others than its held pods: by denied pods, which do not exist, or by a
            contract migration.
        on_written: called with a gate that has changed, or whose ledger has, after its status was written as far as it
            can be; admission now knows of the change, or will in a moment.
        now: the clock, aware.
    """

    def __init__(
        self,
        api: StatusApi,
        gates: GateCache,
        ledgers: LedgerRegistry,
        telemetry: Telemetry,
        *,
        images: ImageStatus,
        count: Callable[[Gate], HeldCount],
        awaited: Callable[[Key], bool],
        on_written: Callable[[Key], None],
        emit: EventSink,
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._gates = gates
        self._ledgers = ledgers
        self._telemetry = telemetry
        self._images = images
        self._count = count
        self._emit = emit
        self._now = now
        self._awaited = awaited
        self._on_written = on_written
        self._queue = WorkQueue(
            self._reconcile_isolated, interval=INTERVAL_SECONDS, soon=CHANGE_INTERVAL_SECONDS, workers=PARALLEL_WRITES
        )
        self._changed: set[Key] = set()
        self._written: dict[Key, dict[str, Any]] = {}
        self._current_events: dict[Key, frozenset[GateEvent]] = {}
        self._bypass_timers: dict[Key, asyncio.TimerHandle] = {}
        self._retry_timers: dict[Key, asyncio.TimerHandle] = {}
        self._backoffs: dict[Key, Backoff] = {}
        self._refused: dict[Key, int] = {}
        """By gate, the generation at which the API server refused its status, until that is tried again."""

    def enqueue(self, gate: Key, *, changed: bool = False) -> None:
        """Enqueue a gate to be reconciled.

        Args:
            changed: the gate or its ledger has changed, not only how many pods wait for it.
        """
        if changed:
            self._changed.add(gate)
        known = self._gates.gate(gate)
        if known is not None and self._refused.get(gate) == known.generation:
            return  # the API server would refuse it once more: the timer tries again, or the next edit of the gate
        self._queue.add(gate, soon=changed)

    async def run(self) -> None:
        """Reconcile what is enqueued until cancelled."""
        try:
            await self._queue.run()
        finally:
            for timer in (*self._bypass_timers.values(), *self._retry_timers.values()):
                timer.cancel()

    async def _reconcile_isolated(self, key: Key) -> None:
        """Reconcile one gate; where that fails in a way that nothing foresees, log it and try again later."""
        changed, done = key in self._changed, False
        self._changed.discard(key)
        with isolated("gate.status_failed", gate="/".join(key)):
            await self._reconcile(key)
            done = True
        if not done:
            self._enqueue_later(key)
        if changed:
            self._on_written(key)

    def _enqueue_later(self, key: Key) -> None:
        """Enqueue a gate after a pause that grows with each failure: one gate must not use up the requests of all."""
        backoff = self._backoffs.setdefault(key, Backoff(INTERVAL_SECONDS, LONGEST_RETRY_SECONDS, jitter=random.random))
        if key not in self._retry_timers:
            timer = asyncio.get_running_loop().call_later(backoff.next(), self._retry, key)
            self._retry_timers[key] = timer

    def _retry(self, key: Key) -> None:
        self._retry_timers.pop(key, None)
        self._refused.pop(key, None)
        self.enqueue(key)

    async def _reconcile(self, key: Key) -> None:
        gate = self._gates.gate(key)
        self._set_bypass_timer(key, gate)
        unreadable = self._gates.unreadable(key)
        if gate is None:
            self._written.pop(key, None)
            self._backoffs.pop(key, None)
            self._refused.pop(key, None)
            self._telemetry.forget_gate(*key)
            self._images.forget(key)
            self._emit_new(key, unreadable_event(unreadable.error) if unreadable else frozenset())
            return
        surplus = self._gates.is_surplus(key)
        if not surplus and not self._ledgers.may_write_status(key):
            # Just started: an earlier leader's status says more than is known here. The first read enqueues it again.
            return
        count = self._count(gate)
        problems = (SURPLUS,) if surplus else self._ledgers.problems(key)
        observation = GateObservation(
            self._ledgers.snapshot(gate), problems, count.held, self._ledgers.fingerprint(key)
        )
        self._ledgers.set_urgent(key, urgent=observation.held > 0 or self._awaited(key))
        self._set_metrics(gate, observation, count)
        status = build_status(observation, gate, self._previous(gate), self._now())
        status |= self._images.status(gate)
        if not is_same_status(status, self._written.get(key, {})) and not await self._write(key, status):
            return
        events = gate_events(observation, gate, status, count, self._now())
        self._emit_new(key, events | (unreadable_event(unreadable.error) if unreadable else frozenset()))

    def _previous(self, gate: Gate) -> PreviousStatus:
        """Return the status to go on from: the object's, and what was written since, which it may not show yet."""
        previous, written = PreviousStatus.from_gate(gate), self._written.get(gate.key)
        return previous if written is None else previous.updated(written)

    async def _write(self, key: Key, status: dict[str, Any]) -> bool:
        try:
            await self._api.patch_gate_status(*key, status)
        except NotFound:
            return False
        except ClusterError as error:
            log_event("gate.status_failed", level=logging.WARNING, gate="/".join(key), error=str(error))
            self._enqueue_later(key)
            gate = self._gates.gate(key)
            if isinstance(error, Rejected) and gate is not None:
                self._refused[key] = gate.generation
            return False
        self._backoffs.pop(key, None)
        self._refused.pop(key, None)
        if self._written.get(key, {}).get("state") != status["state"]:
            message = status["conditions"][0]["message"]
            log_event("gate.state", gate="/".join(key), state=status["state"], message=message)
        self._written[key] = status
        return True

    def _emit_new(self, key: Key, current: frozenset[GateEvent]) -> None:
        """Emit the Events that hold now and did not hold before."""
        metadata = self._gates.metadata(key)
        if metadata is None:
            self._current_events.pop(key, None)
            return
        # After a start only warnings count as new: an earlier leader has reported that all is well.
        before = self._current_events.get(key, frozenset(event for event in current if not event.warning))
        self._current_events[key] = current
        for new in sorted(current - before):
            self._emit(Event(Reference.gate(metadata), "Watch", new.reason, new.note, new.warning, new.dedup_key))

    def _set_bypass_timer(self, key: Key, gate: Gate | None) -> None:
        """Enqueue the gate at the moment at which its bypass begins or ends: no object changes then."""
        timer = self._bypass_timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        left = gate.policy.next_bypass_change(self._now()) if gate is not None else None
        if left is not None:
            self._bypass_timers[key] = asyncio.get_running_loop().call_later(left.total_seconds(), self.enqueue, key)

    def _set_metrics(self, gate: Gate, observation: GateObservation, count: HeldCount) -> None:
        key = gate.key
        for state in GateState:
            self._telemetry.gate_state.labels(*key, state).set(state is observation.state)
        self._telemetry.held.labels(*key).set(count.held)
        self._telemetry.unresolved_images.labels(*key).set(self._images.unresolved(key))
        self._telemetry.held_too_long.labels(*key).set(count.overdue)
        self._telemetry.contract_waiting.labels(*key)  # exists from 0 on, as below; the contract reconciler sets it
        self._telemetry.releases.labels(*key, "gate")  # exists from 0 on, so that the first release is an increase
        self._telemetry.bypass.labels(*key).set(gate.policy.is_bypassed(self._now()))
        if observation.snapshot.ledger is not None and observation.snapshot.observed_at is not None:
            self._telemetry.applied.labels(*key).set(len(observation.snapshot.ledger.applied))
            self._telemetry.age.labels(*key).set_function(lambda: self._ledger_age(key))

    def _ledger_age(self, key: Key) -> float:
        """Return the seconds since a gate's ledger was read, at the moment of the scrape."""
        gate = self._gates.gate(key)
        read = self._ledgers.snapshot(gate).observed_at if gate else None
        return (self._now() - read).total_seconds() if read else float("nan")
