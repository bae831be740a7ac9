"""Kubernetes Events: what `kubectl describe` shows of what we did. Said once, and never in the way of the work."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from webhook.errors import ClusterError, Conflict
from webhook.objects import Metadata
from webhook.telemetry import event

REPORTER = "ledgergate.dev/controller"
NOTE_LIMIT = 1024
"""Characters that the API takes (events.k8s.io/v1, Event.note)."""
QUEUE = 5_000
"""Events that may wait. Past that they are dropped: an Event is a courtesy, a release is not."""
WRITERS = 4


@dataclass(frozen=True, slots=True)
class Happening:
    """Something worth an Event.

    Args:
        action: what we did, as a verb.
        reason: in one word, why it is told.
        note: one sentence for people.
    """

    pod: Metadata
    action: str
    reason: str
    note: str


class EventWriter(Protocol):
    """Where Events go."""

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Create an Event."""


def describe_event(happening: Happening, reporter: str, now: datetime) -> dict[str, Any]:
    """Write an Event as the API has it.

    Its name follows from what it says, so that a second controller, or one that was restarted, says nothing twice.
    https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
    """
    pod = happening.pod
    identity = f"{pod.uid}\n{happening.reason}\n{happening.note}"
    suffix = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{pod.name[:200]}.{suffix}", "namespace": pod.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTER,
        "reportingInstance": reporter[:128],
        "type": "Normal",
        "action": happening.action,
        "reason": happening.reason,
        "note": happening.note[:NOTE_LIMIT],
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
        },
    }


class Recorder:
    """Writes Events in the background, in order of telling."""

    def __init__(self, writer: EventWriter, reporter: str) -> None:
        self._writer = writer
        self._reporter = reporter
        self._waiting: asyncio.Queue[tuple[Happening, datetime]] = asyncio.Queue(QUEUE)

    def tell(self, happening: Happening, now: datetime) -> None:
        """Take note of something; it is written when there is time."""
        try:
            self._waiting.put_nowait((happening, now))
        except asyncio.QueueFull:
            event("event.dropped", level=logging.WARNING, reason=happening.reason)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write())

    async def _write(self) -> None:
        while True:
            happening, at = await self._waiting.get()
            body = describe_event(happening, self._reporter, at)
            try:
                await self._writer.create_event(happening.pod.namespace, body)
            except Conflict:
                continue  # it was said before
            except ClusterError as error:
                event("event.failed", level=logging.WARNING, reason=happening.reason, error=str(error))
