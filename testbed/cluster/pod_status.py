"""The container statuses of a pod, as the tests' kubelet writes them."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(slots=True)
class _ContainerState:
    state: Object
    last: Object | None = None
    restarts: int = 0


class PodStatus:
    """The container statuses of one pod.

    Args:
        spec: the pod's specification.
    """

    def __init__(self, spec: Object) -> None:
        self._inits = spec.get("initContainers", [])
        self._mains = spec["containers"]
        waiting = {"waiting": {"reason": "PodInitializing"}}
        self._states = {each["name"]: _ContainerState(waiting) for each in [*self._inits, *self._mains]}

    def start(self, name: str) -> None:
        """Record that a container runs, perhaps again."""
        current = self._states[name]
        if "terminated" in current.state:
            current.last, current.restarts = current.state, current.restarts + 1
        current.state = {"running": {"startedAt": _now()}}

    def end(self, name: str, code: int, message: str) -> None:
        """Record that a container ended."""
        reason = "Completed" if code == 0 else "Error"
        ended = {"exitCode": code, "reason": reason, "startedAt": self._since(name), "finishedAt": _now()}
        self._states[name].state = {"terminated": {**ended, **({"message": message} if message else {})}}

    def whole(self) -> Object:
        """Return both lists of container statuses."""
        return {
            "initContainerStatuses": [self._one(container) for container in self._inits],
            "containerStatuses": [self._one(container) for container in self._mains],
        }

    def _since(self, name: str) -> str:
        return str(self._states[name].state.get("running", {}).get("startedAt") or _now())

    def _one(self, container: Object) -> Object:
        current = self._states[container["name"]]
        done = current.state.get("terminated", {}).get("exitCode") == 0
        running = "running" in current.state
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": done or running,
            "started": running,
            "restartCount": current.restarts,
            "state": current.state,
            **({"lastState": current.last} if current.last else {}),
        }


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
