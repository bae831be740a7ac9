"""Kubernetes Events: what `kubectl describe` shows of the work. Each is written once; none delays a release."""

import asyncio
import hashlib
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from migrations.core.backoff import Backoff
from webhook.api.objects import API_GROUP, API_VERSION, Metadata
from webhook.controller.work_queue import WorkQueue
from webhook.kube.errors import Conflict, Unavailable
from webhook.telemetry import log_event

REPORTING_CONTROLLER = "ledgergate.dev/controller"
NOTE_LIMIT = 1024
"""Characters that the API accepts (events.k8s.io/v1, Event.note)."""
INSTANCE_LIMIT = 128
"""Characters that the API accepts (events.k8s.io/v1, Event.reportingInstance)."""
QUEUE_SIZE = 5_000
"""Events that may wait. An Event is a courtesy, a release is not."""
PARALLEL_WRITES = 4
"""Namespaces in which an Event is written at a time."""
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


@dataclass(slots=True)
class _Backlog:
    """The Events of one namespace that are to be written, and how its first one fares.

    Args:
        events: each with the time at which it was emitted; never empty.
        tries: how often the first was tried without an answer.
    """

    events: deque[tuple[Event, datetime]] = field(default_factory=deque)
    tries: int = 0
    backoff: Backoff = field(
        default_factory=lambda: Backoff(FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, jitter=random.random)
    )


class EventRecorder:
    """Writes Events in the background: a namespace's in the order in which they were emitted, namespaces in turn.

    So a namespace whose Events the API server does not accept, because a webhook of another product fails there,
    delays only its own.

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
        self._backlogs: dict[str, _Backlog] = {}
        self._size = 0
        self._namespaces = WorkQueue(self._write_next, interval=0.0, soon=0.0, workers=PARALLEL_WRITES)

    def emit(self, event: Event) -> None:
        """Enqueue an Event; where too many wait, drop the last one of the namespace with the most."""
        namespace = event.regarding.metadata.namespace
        own = self._backlogs.get(namespace) or _Backlog()
        if self._size >= QUEUE_SIZE:
            longest = max(self._backlogs.values(), key=lambda backlog: len(backlog.events))
            # Of another namespace only what leaves it as many as this one has: so never the first, which is written.
            dropped = longest.events.pop()[0] if len(longest.events) > len(own.events) + 1 else event
            log_event("event.dropped", level=logging.WARNING, reason=dropped.reason)
            if dropped is event:
                return
            self._size -= 1
        own.events.append((event, self._now()))
        self._size += 1
        self._backlogs[namespace] = own
        self._namespaces.add(namespace)

    async def run(self) -> None:
        """Write until cancelled."""
        await self._namespaces.run()

    async def _write_next(self, namespace: str) -> float | None:
        """Write a namespace's first Event; return the pause before the next try, in seconds, if it got no answer."""
        while self._busy():  # noqa: ASYNC110 - a check now and then is enough for an Event
            await asyncio.sleep(BUSY_POLL_SECONDS)
        if (backlog := self._backlogs.get(namespace)) is None:
            return None  # what was emitted while its first Event was written has been dropped
        event, at = backlog.events[0]
        pause = None
        try:
            await self._api.create_event(namespace, build_event(event, self._instance, at))
            backlog.backoff.reset()
        except Conflict:
            backlog.backoff.reset()  # it was written before, or by the try whose answer was lost
        except Unavailable as error:
            pause = backlog.backoff.next()
            backlog.tries += 1
            if backlog.tries < MAX_TRIES:
                self._namespaces.add(namespace)
                return pause
            log_event("event.failed", level=logging.WARNING, reason=event.reason, error=str(error))
        except Exception as error:  # noqa: BLE001 - ClusterError, or what is wrong with this one Event
            log_event("event.failed", level=logging.WARNING, reason=event.reason, error=str(error))
        self._remove_first(namespace, backlog)
        return pause

    def _remove_first(self, namespace: str, backlog: _Backlog) -> None:
        backlog.events.popleft()
        backlog.tries = 0
        self._size -= 1
        if backlog.events:
            self._namespaces.add(namespace)
        else:
            del self._backlogs[namespace]
