"""One term as the leader: releases, wake-ups, readiness, statuses and Events, over one view of the gates."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from webhook.cache.namespaces import NamespaceApi, NamespaceCache
from webhook.controller.events import EventApi, EventRecorder
from webhook.controller.owner_wakeup import OwnerApi, OwnerWakeup
from webhook.controller.readiness import ReadinessApi, ReadinessReconciler
from webhook.controller.release import PodApi, ReleaseReconciler
from webhook.controller.status import StatusApi, StatusReconciler
from webhook.core.gate import Gate
from webhook.kube.reflector import Key
from webhook.ledgers.registry import GateApi, GateCache
from webhook.telemetry import Telemetry


class ControllerApi(
    GateApi,
    NamespaceApi,
    PodApi,
    OwnerApi,
    ReadinessApi,
    StatusApi,
    EventApi,
    Protocol,
):
    """All that the controller reads and does in the cluster."""


class Controller:
    """What the leader does.

    Args:
        actions: the cluster.
        identity: who we are in Events and in the databases' lists of sessions.
        now: the clock, aware.
        monotonic: seconds of a clock that never jumps, for durations.
    """

    def __init__(
        self,
        actions: ControllerApi,
        identity: str,
        telemetry: Telemetry,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._guard = guard = GateCache(actions, identity, self._gate_changed, telemetry.read_duration.observe)
        self._namespaces = namespaces = NamespaceCache(actions, self._look, monotonic)
        self._recorder = EventRecorder(actions, identity, now, busy=lambda: self._releases.saturated)
        tell = self._recorder.tell
        self._releases = ReleaseReconciler(
            actions, guard, namespaces, telemetry, on_count=self._count_changed, tell=tell, now=now, monotonic=monotonic
        )
        self._wakeups = OwnerWakeup(actions, guard, telemetry, admission=namespaces.label, now=now)
        self._conditions = ReadinessReconciler(actions, guard, namespaces, now=now, monotonic=monotonic)
        self._reports = StatusReconciler(actions, guard, telemetry, count=self._releases.count, tell=tell, now=now)

    async def run(self) -> None:
        """Work until cancelled."""
        parts = (
            self._guard,
            self._namespaces,
            self._releases,
            self._wakeups,
            self._conditions,
            self._reports,
            self._recorder,
        )
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part.run())

    def _gate_changed(self, gate: Key) -> None:
        self._reports.due(gate)
        self._look(gate[0])

    def _look(self, namespace: str) -> None:
        self._releases.look(namespace)
        self._conditions.look(namespace)
        self._wakeups.due(namespace)

    def _count_changed(self, gate: Gate) -> None:
        self._reports.due(gate.key)
        # Its ledger is looked at often from now on; the next report looks whether that is still needed.
        self._guard.set_urgent(gate.key, urgent=True)
