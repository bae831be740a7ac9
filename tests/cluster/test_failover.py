"""Two replicas of everything, as the manifests say: one of them is killed, and the other takes over."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster.application import FIRST, SECOND, Application, migrate, write_migrations
from testbed.cluster.crowd import Crowd, first_ungated
from testbed.cluster.pod_processes import PodProcess, PodProcesses
from testbed.cluster.pod_watch import PodWatch, Sight
from testbed.cluster.service_proxy import ServiceProxy
from testbed.controlplane import ControlPlane
from testbed.waiting import until
from tests.cluster.request_counts import pod_patches

log = logging.getLogger(__name__)

BASE = str(Path(__file__).parents[2] / "manifests/base")
NAMESPACE = "ledgergate"
MIDDLE = 10
"""Released pods after which the leader dies: its requests are on the way, and most pods still wait."""


class Replicas:
    """The installation, each of its pods as a process."""

    def __init__(self, plane: ControlPlane, pods: PodProcesses) -> None:
        self.plane = plane
        self.pods = pods

    def leader(self) -> PodProcess | None:
        """Return the controller that holds the Lease; None while no running one does."""
        found = self.plane.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")
        holders = [lease["spec"].get("holderIdentity") for lease in found["items"]]
        return next((each for each in self.pods.running("controller") if each.name in holders), None)


@pytest.fixture(scope="module")
def replicas(programs: Path) -> Iterator[Replicas]:
    """Everything that manifests/base installs, on a control plane of its own, behind its Service.

    A test may kill one webhook or one controller: the next test needs one of each.
    """
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


def test_a_webhook_judges_pods_when_another_one_dies(replicas: Replicas, database: str, tmp_path: Path) -> None:
    """After SIGKILL of the webhook that answered so far, the other one admits pods with a good verdict ungated.

    Without a webhook the admission policy would hold every one of them until the controller released it.
    """
    replicas.plane.create_namespace("judged")
    application = Application(replicas.plane, "judged")
    migrate(write_migrations(tmp_path / "migrations"), database, "--to", FIRST)
    application.opt_in(database)
    until("the ledger to be read", lambda: application.status().get("head") == FIRST)
    with PodWatch(replicas.plane, "judged") as watch:
        application.deploy("before", FIRST)
        application.await_running("before")
        webhooks = replicas.pods.running("webhook")
        answering = max(webhooks, key=pod_admissions)
        answering.process.kill()
        answering.process.wait()
        application.deploy("after", FIRST, replicas=20)
        application.await_running("after", 20)
        application.deploy("early", SECOND)
        application.await_held("early")
        assert [sight for sight in watch.sights if sight.gated and sight.labels["app"] != "early"] == []
    (other,) = (each for each in webhooks if each is not answering)
    assert pod_admissions(other) >= 23


def pod_admissions(webhook: PodProcess) -> int:
    """Return how many creations of pods a webhook has judged."""
    counter = 'ledgergate_admission_duration_seconds_count{webhook="hold.ledgergate.dev"}'
    lines = webhook.metrics().splitlines()
    return sum(round(float(line.split()[-1])) for line in lines if line.startswith(counter))


def test_pods_go_on_being_released_when_the_leader_dies(replicas: Replicas, database: str, tmp_path: Path) -> None:
    """When the leader is killed in the middle of a release, the other controller completes it: each pod once."""
    plane = replicas.plane
    plane.create_namespace("released")
    crowd = Crowd(Application(plane, "released"), database, deployments=3)
    crowd.gather()
    leader = until("a leader", replicas.leader)
    assert leader is not None
    before, tried_before = pod_patches(plane, code="200"), pod_patches(plane)
    with PodWatch(plane, "released") as watch:
        committed = crowd.migrate(tmp_path / "migrations")
        until("the middle", lambda: len(first_ungated(watch.sights)) >= MIDDLE, pause=0.002)
        leader.process.kill()
        killed = time.time()
        assert len(first_ungated(watch.sights)) < crowd.pods, "the release was over before its middle"
        until("every pod to be released", lambda: len(first_ungated(watch.sights)) == crowd.pods)
        released = first_ungated(watch.sights)
        sights = watch.sights
    successor = until("another leader", replicas.leader)
    assert successor is not None
    assert successor.name != leader.name
    late = max(released.values()) - killed
    log.info("the last of %d pods was released %.2f s after the leader died", crowd.pods, late)
    assert min(released.values()) >= committed, "released before its migration"
    assert gated_again(sights) == []
    # What the killed leader had asked for, and what was answered too late for a client that no longer waits, is carried
    # out, and counted under the code of a client that is gone.
    answered, tried = pod_patches(plane, code="200") - before, pod_patches(plane) - tried_before
    log.info("%d patches, of which %d were answered", tried, answered)
    assert answered <= crowd.pods, "a pod was released twice"
    assert crowd.pods <= tried, "a pod was not released by the controller"


def gated_again(sights: list[Sight]) -> list[str]:
    """Return the pods that were seen with the gate after they were seen without it."""
    free: set[str] = set()
    found = []
    for sight in sights:
        if not sight.gated:
            free.add(sight.name)
        elif sight.name in free:
            found.append(sight.name)
    return found
