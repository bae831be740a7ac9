"""Keep the status and the metrics of every gate, at a pace that the API server does not notice."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from webhook.errors import ClusterError, NotFound
from webhook.gate import Gate
from webhook.guard import Guard
from webhook.reflector import Key
from webhook.status import GateState, Standing, describe, same
from webhook.telemetry import Telemetry, event

PAUSE = 0.5
"""Seconds between two rounds of writing: a thousand pods released at once are two writes, not a thousand."""


class StatusActions(Protocol):
    """Where statuses go."""

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge a LedgerGate's status."""


class Reports:
    """Statuses to be written.

    Args:
        count: how many pods a gate holds.
        now: the clock, aware.
    """

    def __init__(
        self,
        actions: StatusActions,
        guard: Guard,
        telemetry: Telemetry,
        *,
        count: Callable[[Gate], int],
        now: Callable[[], datetime],
    ) -> None:
        self._actions = actions
        self._guard = guard
        self._telemetry = telemetry
        self._count = count
        self._now = now
        self._due: set[Key] = set()
        self._some_due = asyncio.Event()
        self._written: dict[Key, dict[str, Any]] = {}

    def due(self, gate: Key) -> None:
        """Have a gate's status written in the next round."""
        self._due.add(gate)
        self._some_due.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._some_due.wait()
            self._some_due.clear()
            due, self._due = self._due, set()
            for key in due:
                await self._report(key)
            await asyncio.sleep(PAUSE)

    async def _report(self, key: Key) -> None:
        gate = self._guard.gate(key)
        if gate is None:
            self._written.pop(key, None)
            self._telemetry.forget_gate(*key)
            return
        if not self._guard.settled(key):
            return  # we have just started: what stands there is more than we know, and news is on its way
        standing = Standing(self._guard.reading(gate), self._guard.problems(key), self._count(gate))
        self._guard.hasten(key, urgent=standing.held > 0)
        self._measure(key, standing)
        status = describe(standing, gate, self._now())
        if not same(status, self._written.get(key, {})):
            await self._write(key, status)

    async def _write(self, key: Key, status: dict[str, Any]) -> None:
        try:
            await self._actions.patch_gate_status(*key, status)
        except NotFound:
            return
        except ClusterError as error:
            event("gate.status_failed", level=logging.WARNING, gate="/".join(key), error=str(error))
            self.due(key)
            return
        if self._written.get(key, {}).get("state") != status["state"]:
            message = status["conditions"][0]["message"]
            event("gate.state", gate="/".join(key), state=status["state"], message=message)
        self._written[key] = status

    def _measure(self, key: Key, standing: Standing) -> None:
        for state in GateState:
            self._telemetry.gate_state.labels(*key, state).set(state is standing.state)
        self._telemetry.held.labels(*key).set(standing.held)
        if standing.reading.ledger is not None and standing.reading.observed_at is not None:
            self._telemetry.applied.labels(*key).set(len(standing.reading.ledger.applied))
