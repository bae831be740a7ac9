"""Two replicas of everything, as the manifests say: the leader dies in the middle of its work, and nobody notices."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import Application
from testbed.cluster.crowd import Crowd, first_ungated
from testbed.cluster.pod_processes import PodProcess, PodProcesses
from testbed.cluster.pod_watch import PodWatch, Sight
from testbed.cluster.service_proxy import ServiceProxy
from testbed.controlplane import ControlPlane
from testbed.waiting import until
from tests.cluster.requests import pod_patches
from webhook.controller.release import PARALLEL_PATCHES

log = logging.getLogger(__name__)

BASE = str(Path(__file__).parents[2] / "manifests/base")
NAMESPACE = "ledgergate"
LEASE_SECONDS = 5.0
MARGIN = 10.0
"""Seconds beside the Lease's: the other replica looks each second, lists pods and gates, reads the ledger, releases."""
MIDDLE = 10
"""Released pods after which the leader dies: its requests are on the way, and most pods still wait."""


class Replicas:
    """The installation, each pod of it a process.

    Args:
        pods: they.
    """

    def __init__(self, plane: ControlPlane, pods: PodProcesses) -> None:
        self.plane = plane
        self.pods = pods

    def leader(self) -> PodProcess | None:
        """The controller that holds the Lease; None while nobody does."""
        found = self.plane.kubectl("get", "lease", "-n", NAMESPACE, "-o", "json")
        holders = [lease["spec"].get("holderIdentity") for lease in json.loads(found)["items"]]
        return next((each for each in self.pods.running("controller") if each.name in holders), None)


@pytest.fixture
def replicas(programs: Path) -> Iterator[Replicas]:
    """Everything that manifests/base installs, on a control plane of its own, behind its Service."""
    with ControlPlane(programs) as plane:
        plane.kubectl("apply", "--server-side", "-k", f"{BASE}/../crd")
        plane.kubectl("apply", "--server-side", "-k", BASE)
        plane.kubectl("scale", "deployment/ledgergate-webhook", "-n", NAMESPACE, "--replicas=2")
        with PodProcesses(plane, NAMESPACE) as pods:
            found = Replicas(plane, pods)
            service = json.loads(plane.kubectl("get", "service/ledgergate-webhook", "-n", NAMESPACE, "-o", "json"))
            with ServiceProxy(pods, service):
                until("two of each", lambda: {len(pods.running(part)) for part in ("webhook", "controller")} == {2})
                until("a leader", found.leader)
                until("ready webhooks", lambda: all(each.ready() for each in pods.running("webhook")))
                yield found


def test_pods_go_on_being_released_when_the_leader_dies(replicas: Replicas, database: str, tmp_path: Path) -> None:
    """Killed in the middle of a release: the other controller ends it within the Lease's time, each pod once."""
    plane = replicas.plane
    plane.create_namespace("shop")
    crowd = Crowd(Application(plane, "shop"), database, deployments=3)
    crowd.gather()
    leader = until("a leader", replicas.leader)
    assert leader is not None
    before = pod_patches(plane, code="200")
    with PodWatch(plane, "shop") as watch:
        committed = crowd.migrate(tmp_path / "migrations")
        until("the middle", lambda: len(first_ungated(watch.sights)) >= MIDDLE, pause=0.002)
        leader.process.kill()
        killed = time.time()
        assert len(first_ungated(watch.sights)) < crowd.pods, "the release was over before its middle"
        until("every pod to be released", lambda: len(first_ungated(watch.sights)) == crowd.pods, timeout=60)
        released = first_ungated(watch.sights)
        sights = watch.sights
    successor = until("another leader", replicas.leader)
    assert successor is not None
    assert successor.name != leader.name
    late = max(released.values()) - killed
    log.info("the last of %d pods was released %.2f s after the leader died", crowd.pods, late)
    assert late <= LEASE_SECONDS + MARGIN
    assert min(released.values()) >= committed, "released before its migration"
    assert gated_again(sights) == []
    # What the killed leader had asked for is carried out, and counted under the code of a client that is gone.
    answered = pod_patches(plane, code="200") - before
    assert crowd.pods - PARALLEL_PATCHES <= answered <= crowd.pods, "a pod was released twice, or by nobody"


def gated_again(sights: list[Sight]) -> list[str]:
    """Pods that were seen with our gate after they were seen without it."""
    free: set[str] = set()
    found = []
    for sight in sights:
        if not sight.gated:
            free.add(sight.name)
        elif sight.name in free:
            found.append(sight.name)
    return found
