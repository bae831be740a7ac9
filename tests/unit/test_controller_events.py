"""Events: each is written once, by whichever controller, and never before a release."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from webhook.api.objects import Metadata
from webhook.controller.events import MAX_TRIES, Event, EventRecorder, Reference, build_event
from webhook.kube.errors import Conflict, Forbidden, Unavailable

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
GATE = Reference.gate(Metadata(namespace="ns", name="app", uid="1"))


def an_event(note: str = "why", reason: str = "Held", **known: Any) -> Event:
    return Event(Reference.pod(Metadata(namespace="ns", name="p", uid="2")), "Hold", reason, note, **known)


def name(event: Event) -> str:
    found: str = build_event(event, "me", NOW)["metadata"]["name"]
    return found


def test_an_events_name_is_derived_from_its_content() -> None:
    """Equal content is one Event; another object, reason or note is another; a `dedup_key` replaces the note."""
    assert name(an_event()) == name(an_event())
    assert len({name(event) for event in (an_event(), an_event("other"), an_event(reason="Released"))}) == 3
    assert name(an_event("a", dedup_key="x")) == name(an_event("b", dedup_key="x"))
    assert name(an_event("a", dedup_key="x")) != name(an_event("a", dedup_key="y"))


def test_an_event_names_its_object_and_its_type() -> None:
    """`kubectl describe` finds it by the object's kind, name and uid; a Warning is one; a long note is cut."""
    event = build_event(Event(GATE, "Watch", "Misconfigured", "x" * 5000, warning=True), "me", NOW)
    assert event["type"] == "Warning"
    assert event["regarding"] == {
        "apiVersion": "ledgergate.dev/v1alpha1",
        "kind": "LedgerGate",
        "namespace": "ns",
        "name": "app",
        "uid": "1",
    }
    assert len(event["note"]) == 1024
    assert build_event(an_event(), "me", NOW)["type"] == "Normal"


class Writer:
    """Keeps what is written, after the failures that the test sets."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.written: list[str] = []
        self.wrote = asyncio.Event()

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Write an Event."""
        assert namespace == "ns"
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.written.append(body["note"])
        self.wrote.set()


@asynccontextmanager
async def recording(writer: Writer, busy: Callable[[], bool] = lambda: False) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(writer, "me", lambda: NOW, busy=busy)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_events_wait_for_releases_and_survive_refusals() -> None:
    """Nothing is written while releases are busy; an Event that exists, or is refused, stops no other."""
    writer, busy = Writer(Conflict("409: it is there"), Forbidden("403")), [True]
    async with recording(writer, lambda: busy[0]) as recorder:
        for number in range(3):
            recorder.emit(an_event(str(number)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(writer.failures) == 2, "written while busy"
        busy[0] = False
        await asyncio.wait_for(writer.wrote.wait(), 30)
        assert writer.written == ["2"]


async def test_an_event_is_written_once_the_api_server_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that did not come loses no Event; one that never can be written gives way to the next."""
    monkeypatch.setattr("webhook.controller.events.FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr("webhook.controller.events.LONGEST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr("webhook.controller.events.PARALLEL_WRITES", 1)
    writer = Writer(Unavailable("503"), Unavailable("no answer"))
    async with recording(writer) as recorder:
        recorder.emit(an_event("late"))
        await asyncio.wait_for(writer.wrote.wait(), 30)
        assert writer.written == ["late"]
        writer.wrote.clear()
        writer.failures = [Unavailable("503")] * MAX_TRIES
        recorder.emit(an_event("never"))
        recorder.emit(an_event("next"))
        await asyncio.wait_for(writer.wrote.wait(), 30)
        assert writer.written == ["late", "next"]
