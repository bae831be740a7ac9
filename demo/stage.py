"""The demo's stage: a namespace of a real cluster, its database, and a kubelet that runs the real migrator."""

import os
import string
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from testbed.cluster.pod_watch import PodWatch, Sight
from testbed.controlplane import ControlPlane
from testbed.ledger_times import last_commit
from testbed.waiting import until

HERE = Path(__file__).parent
LEDGERGATE = Path(sys.executable).with_name("ledgergate")
NAMESPACE = "shop"
LIMIT = 60.0
"""Seconds after which anything that is waited for counts as failed."""


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """One pod's release: when (Unix time), and for how many seconds it had been held."""

    at: float
    held: float


class Stage:
    """The namespace `shop`.

    Args:
        plane: the control plane.
        database: URL of its database.
        watch: a watch of the namespace's pods.
    """

    def __init__(self, plane: ControlPlane, database: str, watch: PodWatch) -> None:
        self._plane = plane
        self._database = database
        self._watch = watch

    @property
    def revision(self) -> str:
        """What an image built from the demo's migrations expects."""
        return self._ledgergate("revision").strip()

    def apply(self, name: str) -> None:
        """Apply one of the demo's manifests."""
        text = (HERE / "manifests" / f"{name}.yaml").read_text()
        values = {"DATABASE_URL": self._database, "REVISION": self.revision}
        self._plane.apply(string.Template(text).substitute(values))

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        return self._plane.kubectl(*arguments, "-n", NAMESPACE, check=check)

    def settled(self) -> None:
        """Wait until the gate's status says that nothing is held any more; it follows within a second."""
        held = ("get", "ledgergate/shop", "-o", "jsonpath={.status.heldPods}")
        until("the gate's status", lambda: self.kubectl(*held) == "0", timeout=LIMIT)

    def why(self, pod: str) -> str:
        """What the Events say of a pod."""

        def said() -> str:
            columns = "custom-columns=REASON:.reason,FROM:.reportingComponent,MESSAGE:.message"
            return self.kubectl("get", "events", f"--field-selector=involvedObject.name={pod}", "-o", columns)

        return until("the Event of a held pod", lambda: text if "Held" in (text := said()) else "", timeout=LIMIT)

    def try_to_ungate(self, pod: str) -> str:
        """Try, as cluster-admin, to take the scheduling gates off a pod; returns the refusal."""
        patch = '[{"op": "remove", "path": "/spec/schedulingGates"}]'
        return self.kubectl("patch", "pod", pod, "--type=json", f"--patch={patch}", check=False)

    def now(self, app: str) -> list[Sight]:
        """The pods of an app as they were last seen, those that are gone left out."""
        latest = {sight.name: sight for sight in self._watch.sights if sight.labels.get("app") == app}
        return [sight for sight in latest.values() if sight.phase != "Deleted"]

    def held(self, app: str, count: int) -> list[Sight]:
        """Wait until so many pods of an app are held."""
        until(f"{count} held pods", lambda: sum(pod.gated for pod in self.now(app)) == count, timeout=LIMIT)
        return self.now(app)

    def running(self, app: str, count: int, besides: frozenset[str] = frozenset()) -> list[Sight]:
        """Wait until so many pods of an app run, and no other one is left."""

        def all_run() -> bool:
            pods = self.now(app)
            fresh = [pod for pod in pods if pod.name not in besides and pod.phase == "Running"]
            return len(fresh) == len(pods) == count

        until(f"{count} running pods", all_run, timeout=LIMIT)
        return self.now(app)

    def releases(self, names: set[str]) -> list[Release]:
        """When each of these pods was first seen held and then without our gate, earliest release first."""
        held: dict[str, float] = {}
        released: dict[str, float] = {}
        for sight in self._watch.sights:
            if sight.name in names:
                (held if sight.gated else released).setdefault(sight.name, sight.at)
        return sorted((Release(at, at - held[name]) for name, at in released.items() if name in held))

    def run_init_container(self, app: str) -> tuple[str, list[str], float]:
        """Do what the kubelet would: when the init container starts, run the real migrator; then let the pod go on.

        Returns:
            The pod's name, the lines that the migrator printed, and the Unix time of its last commit.
        """
        (pod,) = until("its init container", lambda: [pod for pod in self.now(app) if pod.init_running], timeout=LIMIT)
        printed = self._ledgergate("up", pod=pod.name)
        self.kubectl("annotate", "pod", pod.name, "test.ledgergate.dev/init=done")
        return pod.name, printed.splitlines(), last_commit(self._database)

    def _ledgergate(self, command: str, pod: str = "") -> str:
        environment = {**os.environ, "DATABASE_URL": self._database, **({"POD_NAME": pod} if pod else {})}
        done = subprocess.run(
            [LEDGERGATE, "migrate", command, "--dir", HERE / "migrations"],
            env=environment,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.stdout
