"""Events: each is written once, by whichever controller, and never before a release."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.object_feeds import until
from webhook.api.objects import Metadata
from webhook.controller.events import MAX_TRIES, PARALLEL_WRITES, Event, EventRecorder, Reference, build_event
from webhook.kube.errors import Conflict, Forbidden, Unavailable

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
GATE = Reference.gate(Metadata(namespace="ns", name="app", uid="1"))


def an_event(note: str = "why", reason: str = "Held", namespace: str = "ns", **known: Any) -> Event:
    return Event(Reference.pod(Metadata(namespace=namespace, name="p", uid="2")), "Hold", reason, note, **known)


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
    """Keeps what is written, after the failures that the test sets.

    Attributes:
        refusing: Namespaces in which nothing is accepted.
    """

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.refusing: set[str] = set()
        self.written: list[str] = []
        self.wrote = asyncio.Event()

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Write an Event."""
        assert namespace == body["metadata"]["namespace"]
        if namespace in self.refusing:
            raise Unavailable("500: a webhook of another product failed")
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


async def test_a_namespace_that_accepts_no_event_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more refused Events than are written at a time, another namespace's are all written."""
    monkeypatch.setattr("webhook.controller.events.FIRST_RETRY_SECONDS", 3600.0)
    writer = Writer()
    writer.refusing.add("bad")
    async with recording(writer) as recorder:
        for number in range(PARALLEL_WRITES * 3):
            recorder.emit(an_event(f"bad {number}", namespace="bad"))
        for number in range(3):
            recorder.emit(an_event(str(number)))
        await until(lambda: writer.written == ["0", "1", "2"])


async def test_the_namespace_with_the_most_events_loses_those_that_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full queue costs the namespace that filled it, and no other one; the first of each is never dropped."""
    monkeypatch.setattr("webhook.controller.events.QUEUE_SIZE", 4)
    writer, busy = Writer(), [True]
    async with recording(writer, lambda: busy[0]) as recorder:
        for number in range(9):
            recorder.emit(an_event(f"noisy {number}", namespace="noisy"))
        for namespace in "abcd":
            recorder.emit(an_event(namespace, namespace=namespace))
        busy[0] = False
        await until(lambda: len(writer.written) == 4)
        assert sorted(writer.written) == ["a", "b", "c", "noisy 0"]
        recorder.emit(an_event("later"))
        await until(lambda: writer.written[-1] == "later")


async def test_an_event_that_is_dropped_while_the_one_before_it_is_written_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A namespace whose last Event is dropped meanwhile has no work left, and the recorder goes on."""
    monkeypatch.setattr("webhook.controller.events.QUEUE_SIZE", 3)
    writer, busy = Writer(), [True]
    async with recording(writer, lambda: busy[0]) as recorder:
        recorder.emit(an_event("noisy 0", namespace="noisy"))
        for _ in range(5):
            await asyncio.sleep(0)
        recorder.emit(an_event("noisy 1", namespace="noisy"))
        recorder.emit(an_event("noisy 2", namespace="noisy"))
        for namespace in "ab":
            recorder.emit(an_event(namespace, namespace=namespace))
        busy[0] = False
        await until(lambda: sorted(writer.written) == ["a", "b", "noisy 0"])
        recorder.emit(an_event("later", namespace="noisy"))
        await until(lambda: writer.written[-1] == "later")
