"""One term as the leader: releases, statuses and Events, over one view of the gates."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from webhook.events import EventWriter, Recorder
from webhook.gate import Gate
from webhook.guard import Guard, Objects
from webhook.reflector import Key
from webhook.release import PodActions, Releases
from webhook.reporting import Reports, StatusActions
from webhook.telemetry import Telemetry


class Actions(Objects, PodActions, StatusActions, EventWriter, Protocol):
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
        actions: Actions,
        identity: str,
        telemetry: Telemetry,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._guard = Guard(actions, identity, self._gate_changed)
        self._recorder = Recorder(actions, identity)
        self._releases = Releases(
            actions,
            self._guard,
            telemetry,
            on_count=self._count_changed,
            tell=self._recorder.tell,
            now=now,
            monotonic=monotonic,
        )
        self._reports = Reports(actions, self._guard, telemetry, count=self._releases.count, now=now)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for part in (self._guard, self._releases, self._reports, self._recorder):
                group.create_task(part.run())

    def _gate_changed(self, gate: Key) -> None:
        self._reports.due(gate)
        self._releases.look(gate[0])

    def _count_changed(self, gate: Gate) -> None:
        self._reports.due(gate.key)
        # Its ledger is looked at often from now on; the next report looks whether that is still needed.
        self._guard.hasten(gate.key, urgent=True)
