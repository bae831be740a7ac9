"""The status of a pod as the tests' kubelet writes it: how each container stands."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(slots=True)
class _Standing:
    state: Object
    last: Object | None = None
    restarts: int = 0


class PodStatus:
    """How the containers of one pod stand.

    Args:
        spec: the pod's.
    """

    def __init__(self, spec: Object) -> None:
        self._inits = spec.get("initContainers", [])
        self._mains = spec["containers"]
        waiting = {"waiting": {"reason": "PodInitializing"}}
        self._standings = {each["name"]: _Standing(waiting) for each in [*self._inits, *self._mains]}

    def start(self, name: str) -> None:
        """Note that a container runs, perhaps once more."""
        standing = self._standings[name]
        if "terminated" in standing.state:
            standing.last, standing.restarts = standing.state, standing.restarts + 1
        standing.state = {"running": {"startedAt": _now()}}

    def end(self, name: str, code: int, message: str) -> None:
        """Note that a container ended."""
        reason = "Completed" if code == 0 else "Error"
        ended = {"exitCode": code, "reason": reason, "startedAt": self._since(name), "finishedAt": _now()}
        self._standings[name].state = {"terminated": {**ended, **({"message": message} if message else {})}}

    def whole(self) -> Object:
        """Give the two lists of a pod's status."""
        return {
            "initContainerStatuses": [self._one(container) for container in self._inits],
            "containerStatuses": [self._one(container) for container in self._mains],
        }

    def _since(self, name: str) -> str:
        return str(self._standings[name].state.get("running", {}).get("startedAt") or _now())

    def _one(self, container: Object) -> Object:
        standing = self._standings[container["name"]]
        done = standing.state.get("terminated", {}).get("exitCode") == 0
        running = "running" in standing.state
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": done or running,
            "started": running,
            "restartCount": standing.restarts,
            "state": standing.state,
            **({"lastState": standing.last} if standing.last else {}),
        }


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
