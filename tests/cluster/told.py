"""What Events say, as `kubectl get events` has them."""

import json
from typing import Any

from tests.cluster.application import Application


def events(application: Application, reason: str, kind: str) -> list[dict[str, Any]]:
    """The Events of a reason on objects of a kind in the application's namespace."""
    found = application.plane.kubectl(
        "get", "events.events.k8s.io", "-n", application.namespace, "-o", "json", "--field-selector", f"reason={reason}"
    )
    return [event for event in json.loads(found)["items"] if event["regarding"]["kind"] == kind]
