"""Kubernetes Events: what `kubectl describe` shows of what we did. Said once, and never in the way of the work."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from webhook.api.objects import API_GROUP, API_VERSION, Metadata
from webhook.kube.errors import ClusterError, Conflict
from webhook.telemetry import log_event

REPORTER = "ledgergate.dev/controller"
NOTE_LIMIT = 1024
"""Characters that the API takes (events.k8s.io/v1, Event.note)."""
QUEUE = 5_000
"""Events that may wait. Past that they are dropped: an Event is a courtesy, a release is not."""
WRITERS = 4
PATIENCE = 0.05
"""Seconds that an Event waits for releases at a time."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What an Event is about."""

    api_version: str
    kind: str
    metadata: Metadata

    @classmethod
    def pod(cls, metadata: Metadata) -> "Reference":
        """Refer to a pod."""
        return cls("v1", "Pod", metadata)

    @classmethod
    def gate(cls, metadata: Metadata) -> "Reference":
        """Refer to a LedgerGate."""
        return cls(f"{API_GROUP}/{API_VERSION}", "LedgerGate", metadata)


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth an Event.

    Args:
        action: what we did, as a verb.
        reason: in one word, why it is told.
        note: one sentence for people.
        warning: somebody should do something about it.
        once: what makes it the same as one that was told before, beside its object and its reason; the note, if empty.
    """

    regarding: Reference
    action: str
    reason: str
    note: str
    warning: bool = False
    once: str = ""


EventSink = Callable[[Event], None]
"""Takes note of something; it is written when there is time."""


class EventApi(Protocol):
    """Where Events go."""

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Create an Event."""


def build_event(happening: Event, reporter: str, now: datetime) -> dict[str, Any]:
    """Write an Event as the API has it.

    Its name follows from what it says, so that a second controller, or one that was restarted, says nothing twice.
    https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
    """
    regarding, about = happening.regarding, happening.regarding.metadata
    identity = f"{about.uid}\n{happening.reason}\n{happening.once or happening.note}"
    suffix = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name[:200]}.{suffix}", "namespace": about.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTER,
        "reportingInstance": reporter[:128],
        "type": "Warning" if happening.warning else "Normal",
        "action": happening.action,
        "reason": happening.reason,
        "note": happening.note[:NOTE_LIMIT],
        "regarding": {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
    }


class EventRecorder:
    """Writes Events in the background, in order of telling.

    Args:
        now: the clock, aware.
        busy: tells whether the API server has something better to do for us.
    """

    def __init__(
        self, writer: EventApi, reporter: str, now: Callable[[], datetime], busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._writer = writer
        self._reporter = reporter
        self._now = now
        self._busy = busy
        self._waiting: asyncio.Queue[tuple[Event, datetime]] = asyncio.Queue(QUEUE)

    def tell(self, happening: Event) -> None:
        """Take note of something; it is written when there is time."""
        try:
            self._waiting.put_nowait((happening, self._now()))
        except asyncio.QueueFull:
            log_event("event.dropped", level=logging.WARNING, reason=happening.reason)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write())

    async def _write(self) -> None:
        while True:
            happening, at = await self._waiting.get()
            while self._busy():  # noqa: ASYNC110 - a look every so often is all the care that an Event needs
                await asyncio.sleep(PATIENCE)
            body = build_event(happening, self._reporter, at)
            try:
                await self._writer.create_event(happening.regarding.metadata.namespace, body)
            except Conflict:
                continue  # it was said before
            except ClusterError as error:
                log_event("event.failed", level=logging.WARNING, reason=happening.reason, error=str(error))
