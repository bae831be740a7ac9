"""A watch of the pods of a namespace, with the time of each event."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from testbed.cluster.application import is_held
from testbed.controlplane import ControlPlane, ControlPlaneError
from testbed.controlplane.api import EventStream

RETRY = 0.05
"""Seconds between two tries to reach an API server that does not answer."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A pod in one watch event.

    Attributes:
        at: Unix time at which the event arrived.
        phase: `Pending`, `Running`, ...; `Deleted` for a deleted pod.
        init_running: Whether its first init container runs.
    """

    at: float
    name: str
    labels: dict[str, str]
    gated: bool
    phase: str
    init_running: bool


class PodWatch:
    """A watch in the background; it is started again, with all existing pods, when the API server ends it.

    A list and a watch from its version on: `sendInitialEvents` (KEP-3157) is refused by older servers, such as 1.30.

    Args:
        plane: control plane.
        namespace: namespace of the pods.
    """

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._api = plane.api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._sights: list[Sight] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._stream = self._start()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._closed.set()
            self._stream.close()
        self._thread.join()

    @property
    def sights(self) -> list[Sight]:
        """All events so far, oldest first."""
        with self._lock:
            return list(self._sights)

    def _start(self) -> EventStream:
        """List the pods and watch what changes; return when the watch is established."""
        found = self._api.get(self._path)
        now = time.time()
        for pod in found["items"]:
            self._take(now, {"type": "ADDED", "object": pod})
        return self._api.watch(self._path, found["metadata"]["resourceVersion"])

    def _read(self) -> None:
        while True:
            for event in self._stream:
                if event["type"] != "ERROR":  # after which the server ends the watch
                    self._take(time.time(), event)
            if not self._restart():
                return

    def _restart(self) -> bool:
        """Watch again as soon as the API server answers; return False if the watch was closed meanwhile."""
        while not self._closed.wait(RETRY):
            try:
                stream = self._start()
            except ControlPlaneError:
                continue
            with self._lock:
                self._stream = stream
                if self._closed.is_set():
                    stream.close()
            return True
        return False

    def _take(self, at: float, event: dict[str, Any]) -> None:
        sight = _sight(at, event)
        with self._lock:
            self._sights.append(sight)


def _sight(at: float, event: dict[str, Any]) -> Sight:
    pod = event["object"]
    init = pod["status"].get("initContainerStatuses") or [{}]
    return Sight(
        at,
        pod["metadata"]["name"],
        pod["metadata"].get("labels", {}),
        is_held(pod),
        "Deleted" if event["type"] == "DELETED" else pod["status"].get("phase", ""),
        "running" in (init[0].get("state") or {}),
    )
