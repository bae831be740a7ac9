"""A watch of the pods of a namespace, with the time of each event."""

import json
import subprocess
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from testbed.controlplane import ControlPlane

GATE = "ledgergate.dev/ledger"
START_TIMEOUT = 30.0


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

    Args:
        plane: control plane.
        namespace: namespace of the pods.
    """

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        # KEP-3157: a bookmark follows when all existing pods have been sent and the watch is established.
        query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        path = f"/api/v1/namespaces/{namespace}/pods?{query}"
        kubectl = str(plane.programs / "kubectl")
        self._command = [kubectl, f"--kubeconfig={plane.kubeconfig}", "get", "--raw", path]
        self._sights: list[Sight] = []
        self._lock = threading.Lock()
        self._established = threading.Event()
        self._closed = False

    def __enter__(self) -> Self:
        self._process = self._start()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if not self._established.wait(START_TIMEOUT):
            raise TimeoutError("the watch of pods did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._closed = True
            self._process.terminate()
        self._thread.join()

    @property
    def sights(self) -> list[Sight]:
        """All events so far, oldest first."""
        with self._lock:
            return list(self._sights)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def _read(self) -> None:
        while True:
            with self._process as process:
                for line in process.stdout or ():
                    self._take(time.time(), json.loads(line))
            with self._lock:
                if self._closed:
                    return
                self._process = self._start()

    def _take(self, at: float, event: dict[str, Any]) -> None:
        if event["type"] == "BOOKMARK":
            self._established.set()
        elif event["type"] != "ERROR":  # after which the server ends the watch
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
        any(gate["name"] == GATE for gate in pod["spec"].get("schedulingGates", ())),
        "Deleted" if event["type"] == "DELETED" else pod["status"].get("phase", ""),
        "running" in (init[0].get("state") or {}),
    )
