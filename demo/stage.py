"""The demo's stage: a namespace of a real cluster, its database, and the kubelet's part of running the migrator."""

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
"""Seconds after which a wait fails."""


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """The release of a pod.

    Attributes:
        at: When, in Unix time.
        held: Seconds for which the pod was held.
    """

    at: float
    held: float


class Stage:
    """The namespace `shop`.

    Args:
        plane: The control plane.
        database: URL of the application's database.
        watch: A watch of the namespace's pods.
    """

    def __init__(self, plane: ControlPlane, database: str, watch: PodWatch) -> None:
        self._plane = plane
        self._database = database
        self._watch = watch

    @property
    def revision(self) -> str:
        """The revision that an image built from the demo's migrations expects."""
        return self._ledgergate("revision").strip()

    def apply(self, name: str) -> None:
        """Apply one of the demo's manifests."""
        text = (HERE / "manifests" / f"{name}.yaml").read_text()
        values = {"DATABASE_URL": self._database, "REVISION": self.revision}
        self._plane.apply(string.Template(text).substitute(values))

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        return self._plane.kubectl(*arguments, "-n", NAMESPACE, check=check)

    def wait_until_none_held(self) -> None:
        """Wait until the gate's status counts no held pod; the status follows within a second."""
        held_pods = ("get", "ledgergate/shop", "-o", "jsonpath={.status.heldPods}")
        until("the gate's status", lambda: self.kubectl(*held_pods) == "0", timeout=LIMIT)

    def events_of(self, pod: str) -> str:
        """Wait for the Events about a held pod; return them as kubectl prints them."""

        def events() -> str:
            columns = "custom-columns=REASON:.reason,FROM:.reportingComponent,MESSAGE:.message"
            return self.kubectl("get", "events", f"--field-selector=involvedObject.name={pod}", "-o", columns)

        return until("the Event of a held pod", lambda: text if "Held" in (text := events()) else "", timeout=LIMIT)

    def try_to_ungate(self, pod: str) -> str:
        """Try as cluster-admin to remove the scheduling gates of a pod; return the refusal."""
        patch = '[{"op": "remove", "path": "/spec/schedulingGates"}]'
        return self.kubectl("patch", "pod", pod, "--type=json", f"--patch={patch}", check=False)

    def wait_until_refused(self, app: str) -> str:
        """Wait until a ReplicaSet of an app reports that its pods are refused; return the message."""
        path = "jsonpath={.items[*].status.conditions[?(@.type=='ReplicaFailure')].message}"
        return until(
            f"a refused pod of {app}",
            lambda: self.kubectl("get", "replicasets", "-l", f"app={app}", "-o", path),
            timeout=LIMIT,
        )

    def pods(self, app: str) -> list[Sight]:
        """Return the pods of an app as they were last seen, without deleted ones."""
        latest = {sight.name: sight for sight in self._watch.sights if sight.labels.get("app") == app}
        return [sight for sight in latest.values() if sight.phase != "Deleted"]

    def wait_until_held(self, app: str, count: int) -> list[Sight]:
        """Wait until the given number of an app's pods are held; return the app's pods."""
        until(f"{count} held pods", lambda: sum(pod.gated for pod in self.pods(app)) == count, timeout=LIMIT)
        return self.pods(app)

    def wait_until_running(self, app: str, count: int, besides: frozenset[str] = frozenset()) -> list[Sight]:
        """Wait until the app has exactly the given number of pods, all running; return them.

        Args:
            app: Label of the pods.
            count: How many pods must run.
            besides: Names of pods that do not count and must be gone, such as those before a rollout.
        """

        def all_run() -> bool:
            pods = self.pods(app)
            fresh = [pod for pod in pods if pod.name not in besides and pod.phase == "Running"]
            return len(fresh) == len(pods) == count

        until(f"{count} running pods", all_run, timeout=LIMIT)
        return self.pods(app)

    def releases(self, names: set[str]) -> list[Release]:
        """Return when each pod was released and how long it was held, earliest release first."""
        held: dict[str, float] = {}
        released: dict[str, float] = {}
        for sight in self._watch.sights:
            if sight.name in names:
                (held if sight.gated else released).setdefault(sight.name, sight.at)
        return sorted((Release(at, at - held[name]) for name, at in released.items() if name in held))

    def run_init_container(self, app: str) -> tuple[str, list[str], float]:
        """Act as the kubelet: run the real migrator when the init container starts, then let the pod continue.

        Returns:
            The pod's name, the lines that the migrator printed, and the Unix time of its last commit.
        """
        (pod,) = until("its init container", lambda: [pod for pod in self.pods(app) if pod.init_running], timeout=LIMIT)
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
