"""Kubernetes Events: what `kubectl describe` shows of the work. Each is written once; none delays a release."""

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from migrations.core.backoff import Backoff
from webhook.api.objects import API_GROUP, API_VERSION, Metadata
from webhook.kube.errors import Conflict, Unavailable
from webhook.telemetry import log_event

REPORTING_CONTROLLER = "ledgergate.dev/controller"
NOTE_LIMIT = 1024
"""Characters that the API accepts (events.k8s.io/v1, Event.note)."""
INSTANCE_LIMIT = 128
"""Characters that the API accepts (events.k8s.io/v1, Event.reportingInstance)."""
QUEUE_SIZE = 5_000
"""Events that may wait; further ones are dropped. An Event is a courtesy, a release is not."""
PARALLEL_WRITES = 4
BUSY_POLL_SECONDS = 0.05
"""Between two checks whether releases leave room for an Event."""
MAX_TRIES = 12
"""Tries to write an Event while the API server does not answer, as client-go's recorder (maxTriesPerEvent)."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Reference:
    """The object that an Event is about."""

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
        action: what the controller did, as a verb.
        reason: why, in one word.
        note: one sentence for people.
        warning: a person should act.
        dedup_key: with object and reason, what makes two Events the same one; the note, if empty.
    """

    regarding: Reference
    action: str
    reason: str
    note: str
    warning: bool = False
    dedup_key: str = ""


EventSink = Callable[[Event], None]
"""Accepts an Event, which is written when there is time."""


class EventApi(Protocol):
    """Where Events are written."""

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Create an Event."""


def build_event(event: Event, instance: str, now: datetime) -> dict[str, Any]:
    """Return an Event as the API has it.

    Its name is derived from what it says. So a second controller, or one that was restarted, gets a 409 Conflict from
    the API server instead of writing the same Event again, and no list of written Events has to be kept.
    https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
    """
    regarding, metadata = event.regarding, event.regarding.metadata
    identity = f"{metadata.uid}\n{event.reason}\n{event.dedup_key or event.note}"
    suffix = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        # A name has at most 253 characters, and a pod's own may already have as many.
        "metadata": {"name": f"{metadata.name[:200]}.{suffix}", "namespace": metadata.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": instance[:INSTANCE_LIMIT],
        "type": "Warning" if event.warning else "Normal",
        "action": event.action,
        "reason": event.reason,
        "note": event.note[:NOTE_LIMIT],
        "regarding": {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
        },
    }


class EventRecorder:
    """Writes Events in the background, in the order in which they were emitted.

    Args:
        instance: this replica, as an Event's ``reportingInstance``.
        now: the clock, aware.
        busy: whether more urgent requests to the API server are waiting.
    """

    def __init__(
        self, api: EventApi, instance: str, now: Callable[[], datetime], busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._api = api
        self._instance = instance
        self._now = now
        self._busy = busy
        self._queue: asyncio.Queue[tuple[Event, datetime]] = asyncio.Queue(QUEUE_SIZE)

    def emit(self, event: Event) -> None:
        """Enqueue an Event; drop it where the queue is full."""
        try:
            self._queue.put_nowait((event, self._now()))
        except asyncio.QueueFull:
            log_event("event.dropped", level=logging.WARNING, reason=event.reason)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL_WRITES):
                group.create_task(self._write())

    async def _write(self) -> None:
        while True:
            event, at = await self._queue.get()
            try:
                body = build_event(event, self._instance, at)
                await self._create(event.regarding.metadata.namespace, body)
            except Conflict:
                continue  # it was written before, or by the try whose answer was lost
            except Exception as error:  # noqa: BLE001 - ClusterError, or what is wrong with this one Event
                log_event("event.failed", level=logging.WARNING, reason=event.reason, error=str(error))

    async def _create(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Create an Event; try again while the API server does not answer. Other Events wait meanwhile."""
        backoff = Backoff(FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, jitter=random.random)
        tries = 0
        while True:
            while self._busy():  # noqa: ASYNC110 - a check now and then is enough for an Event
                await asyncio.sleep(BUSY_POLL_SECONDS)
            try:
                return await self._api.create_event(namespace, body)
            except Unavailable:
                tries += 1
                if tries == MAX_TRIES:
                    raise
            await asyncio.sleep(backoff.next())
