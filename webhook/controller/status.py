"""Keep the status and the metrics of every gate, and tell of its changes, at a pace the API server does not notice."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from webhook.controller.events import Event, EventSink, Reference
from webhook.controller.gate_events import GateEvent, gate_events, unreadable_event
from webhook.controller.held_pods import HeldCount
from webhook.core.gate import Gate
from webhook.core.status import GateObservation, GateState, PreviousStatus, build_status, is_same_status
from webhook.kube.errors import ClusterError, NotFound
from webhook.kube.reflector import Key
from webhook.ledgers.registry import GateCache
from webhook.telemetry import Telemetry, log_event

PAUSE = 0.5
"""Seconds between two rounds of writing: a thousand pods released at once are two writes, not a thousand."""


class StatusApi(Protocol):
    """Where statuses go."""

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge a LedgerGate's status."""


class StatusReconciler:
    """Statuses to be written.

    Args:
        count: how many pods a gate holds.
        tell: says in an Event what happened.
        now: the clock, aware.
    """

    def __init__(
        self,
        actions: StatusApi,
        guard: GateCache,
        telemetry: Telemetry,
        *,
        count: Callable[[Gate], HeldCount],
        tell: EventSink,
        now: Callable[[], datetime],
    ) -> None:
        self._actions = actions
        self._guard = guard
        self._telemetry = telemetry
        self._count = count
        self._tell = tell
        self._now = now
        self._due: set[Key] = set()
        self._some_due = asyncio.Event()
        self._written: dict[Key, dict[str, Any]] = {}
        self._announced: dict[Key, frozenset[GateEvent]] = {}
        self._alarms: dict[Key, asyncio.TimerHandle] = {}

    def due(self, gate: Key) -> None:
        """Have a gate's status written in the next round."""
        self._due.add(gate)
        self._some_due.set()

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                await self._some_due.wait()
                self._some_due.clear()
                due, self._due = self._due, set()
                for key in due:
                    await self._report(key)
                await asyncio.sleep(PAUSE)
        finally:
            for alarm in self._alarms.values():
                alarm.cancel()

    async def _report(self, key: Key) -> None:
        gate = self._guard.gate(key)
        self._set_alarm(key, gate)
        unreadable = self._guard.unreadable(key)
        if gate is None:
            self._written.pop(key, None)
            self._telemetry.forget_gate(*key)
            self._announce(key, unreadable_event(unreadable.error) if unreadable else frozenset())
            return
        if not self._guard.settled(key):
            return  # we have just started: what stands there is more than we know, and news is on its way
        count = self._count(gate)
        standing = GateObservation(
            self._guard.snapshot(gate), self._guard.problems(key), count.held, self._guard.place(key)
        )
        self._guard.set_urgent(key, urgent=standing.held > 0)
        self._measure(gate, standing, count)
        status = build_status(standing, gate, self._memory(gate), self._now())
        if not is_same_status(status, self._written.get(key, {})) and not await self._write(key, status):
            return
        told = gate_events(standing, gate, status, count, self._now())
        self._announce(key, told | (unreadable_event(unreadable.error) if unreadable else frozenset()))

    def _memory(self, gate: Gate) -> PreviousStatus:
        memory, written = PreviousStatus.of_gate(gate), self._written.get(gate.key)
        return memory if written is None else memory.after(written)

    async def _write(self, key: Key, status: dict[str, Any]) -> bool:
        try:
            await self._actions.patch_gate_status(*key, status)
        except NotFound:
            return False
        except ClusterError as error:
            log_event("gate.status_failed", level=logging.WARNING, gate="/".join(key), error=str(error))
            self.due(key)
            return False
        if self._written.get(key, {}).get("state") != status["state"]:
            message = status["conditions"][0]["message"]
            log_event("gate.state", gate="/".join(key), state=status["state"], message=message)
        self._written[key] = status
        return True

    def _announce(self, key: Key, current: frozenset[GateEvent]) -> None:
        """Tell what holds now and did not hold before."""
        metadata = self._guard.metadata(key)
        if metadata is None:
            self._announced.pop(key, None)
            return
        # At the first look, of what is as it should be an earlier leader has told.
        before = self._announced.get(key, frozenset(one for one in current if not one.warning))
        self._announced[key] = current
        for one in sorted(current - before):
            self._tell(Event(Reference.gate(metadata), "Watch", one.reason, one.note, one.warning, one.once))

    def _set_alarm(self, key: Key, gate: Gate | None) -> None:
        """Look again at the moment at which a bypass ends, by the clock and by nobody's doing."""
        alarm = self._alarms.pop(key, None)
        if alarm is not None:
            alarm.cancel()
        if gate is None or gate.policy.bypass_until is None:
            return
        left = (gate.policy.bypass_until - self._now()).total_seconds()
        if left > 0:
            self._alarms[key] = asyncio.get_running_loop().call_later(left, self.due, key)

    def _measure(self, gate: Gate, standing: GateObservation, count: HeldCount) -> None:
        key = gate.key
        for state in GateState:
            self._telemetry.gate_state.labels(*key, state).set(state is standing.state)
        self._telemetry.held.labels(*key).set(count.held)
        self._telemetry.held_too_long.labels(*key).set(count.overdue)
        self._telemetry.releases.labels(*key, "gate")  # from 0 on, so that the first one counts as an increase
        until = gate.policy.bypass_until
        self._telemetry.bypass.labels(*key).set(until is not None and self._now() < until)
        if standing.snapshot.ledger is not None and standing.snapshot.observed_at is not None:
            self._telemetry.applied.labels(*key).set(len(standing.snapshot.ledger.applied))
            self._telemetry.age.labels(*key).set_function(lambda: self._age(key))

    def _age(self, key: Key) -> float:
        """Return the seconds since a gate's ledger was read, when somebody looks at the metric."""
        gate = self._guard.gate(key)
        read = self._guard.snapshot(gate).observed_at if gate else None
        return (self._now() - read).total_seconds() if read else float("nan")
