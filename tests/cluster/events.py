"""Reading Events."""

from typing import Any

from testbed.cluster.application import Application


def events(application: Application, reason: str, kind: str) -> list[dict[str, Any]]:
    """Return the Events with a reason on objects of a kind in the application's namespace."""
    found = application.objects("events.k8s.io/v1", "events", fieldSelector=f"reason={reason}")
    return [event for event in found if event["regarding"]["kind"] == kind]
