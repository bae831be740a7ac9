"""Events: said once, by whichever controller, and never in the way of the work."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from webhook.api.objects import Metadata
from webhook.controller.events import Event, EventRecorder, Reference, build_event
from webhook.kube.errors import Conflict, Unavailable

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
GATE = Reference.gate(Metadata(namespace="ns", name="app", uid="1"))


def happening(note: str = "why", reason: str = "Held", **known: Any) -> Event:
    return Event(Reference.pod(Metadata(namespace="ns", name="p", uid="2")), "Hold", reason, note, **known)


def name(one: Event) -> str:
    found: str = build_event(one, "me", NOW)["metadata"]["name"]
    return found


def test_an_events_name_follows_from_what_it_says() -> None:
    """The same said twice is one Event; another object, reason or note is another; `dedup_key` goes before the note."""
    assert name(happening()) == name(happening())
    assert len({name(one) for one in (happening(), happening("other"), happening(reason="Released"))}) == 3
    assert name(happening("a", dedup_key="x")) == name(happening("b", dedup_key="x"))
    assert name(happening("a", dedup_key="x")) != name(happening("a", dedup_key="y"))


def test_an_event_names_its_object_and_its_weight() -> None:
    """`kubectl describe` finds it by the object's kind, name and uid; a Warning is marked as one; a note fits."""
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
    assert build_event(happening(), "me", NOW)["type"] == "Normal"


class Writer:
    """Keeps what is written; what was there before, or fails, is said by the test."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.written: list[str] = []
        self.wrote = asyncio.Event()

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Write one."""
        assert namespace == "ns"
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.written.append(body["note"])
        self.wrote.set()


async def test_events_wait_for_releases_and_survive_refusals() -> None:
    """Nothing is written while there is something better to do; what was said before, or fails, stops no other."""
    writer, busy = Writer(Conflict("409: it is there"), Unavailable("503")), [True]
    recorder = EventRecorder(writer, "me", lambda: NOW, busy=lambda: busy[0])
    task = asyncio.create_task(recorder.run())
    for number in range(3):
        recorder.emit(happening(str(number)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(writer.failures) == 2, "written while busy"
    busy[0] = False
    await asyncio.wait_for(writer.wrote.wait(), 5)
    assert writer.written == ["2"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
