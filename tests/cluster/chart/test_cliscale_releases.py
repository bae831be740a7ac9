"""The guide's three releases by the example's chart with `migrations.phases`, Knex and a guard that helm installed."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from testbed.cluster.application import Application
from testbed.cluster.cliscale import CONTROLLER, Cliscale, ledger
from testbed.cluster.kubelet import Kubelet
from testbed.cluster.pod_watch import PodWatch
from testbed.cluster.release_checker import ReleaseChecker
from testbed.waiting import until
from tests.three_releases import CONTRACT, DIRECTORY, LAST, SLOW, USES, insert_rows, knex_images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testbed.cluster.guard import Guard

TAG = "{}.0.0"
"""Tag of the images of a release."""
SELECTOR = "app.kubernetes.io/component in (controller, gateway)"
PODS = 5
"""Number of pods of both components."""
STRAGGLER = "straggler"
"""Name of a pod that no rollout ends."""


def tag_of(pod: dict[str, Any]) -> str:
    """Return the tag of a pod's image."""
    return str(pod["spec"]["containers"][0]["image"]).rpartition(":")[2]


@pytest.fixture
def phased(guard: Guard, namespace: str, database: str, tmp_path: Path) -> Iterator[Cliscale]:
    """The example, not yet installed, with an image for each of the guide's releases."""
    images = knex_images(tmp_path, f"{CONTROLLER}:{TAG}")
    with Kubelet(guard.plane, namespace, images) as kubelet:
        prepared = Cliscale(guard.plane, guard.helm, kubelet, images, namespace, database, guard.namespace)
        prepared.prepare()
        yield prepared


@pytest.fixture
def checker(phased: Cliscale) -> Iterator[ReleaseChecker]:
    """What uses the database as the pods of both Deployments would."""
    uses = {TAG.format(release): use for release, use in USES.items()}
    application = Application(phased.plane, phased.namespace)
    with ReleaseChecker(application, SELECTOR, phased.database, uses, tag_of) as checker:
        yield checker


def upgrade(cliscale: Cliscale, release: int, *more: str) -> None:
    """Install a release of the guide, or upgrade to it; helm waits for the hooks, and not for the rollout."""
    contracts = [CONTRACT] if release == LAST else []
    phases = ("--set=migrations.phases=true", "--set-json", f"migrations.contracts={json.dumps(contracts)}")
    values = ("--set=ledgerGate.askImages=false", *phases)  # the images are in no registry
    cliscale.upgrade(TAG.format(release), *values, *more)


def await_release(checker: ReleaseChecker, release: int) -> None:
    """Wait until a release's pods run and no other's."""
    expected = [TAG.format(release)] * PODS
    until(f"only release {release}", lambda: checker.running() == expected, timeout=90)


def roll_out(cliscale: Cliscale, checker: ReleaseChecker) -> None:
    """Install release 0, add users, go on to release 2, and back to release 1."""
    upgrade(cliscale, 0)
    await_release(checker, 0)
    slow = json.dumps({"spec": {"minReadySeconds": SLOW}})
    for component in ("controller", "gateway"):
        cliscale.kubectl("patch", "deployment", f"cliscale-{component}", "--type=merge", "-p", slow)
    insert_rows(cliscale.database)
    for release in (1, 2):
        upgrade(cliscale, release)
        await_release(checker, release)
    cliscale.helm("rollback", "cliscale", "2", "-n", cliscale.namespace)
    await_release(checker, 1)


def start_straggler(cliscale: Cliscale) -> None:
    """Start a pod of the release that runs, which no rollout ends: that of a branch, or of a Job."""
    template = cliscale.get("deployment/cliscale-gateway")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] |= {"name": STRAGGLER, "namespace": cliscale.namespace}
    cliscale.plane.apply(yaml.safe_dump(pod))


def waited_for(cliscale: Cliscale) -> int | None:
    """Return how many pods the contract Job waits for; None where it does not wait."""
    waiting = cliscale.gate_status().get("contractWaiting")
    return waiting and int(waiting["waitingFor"])


def test_three_releases_with_a_rollback(phased: Cliscale, checker: ReleaseChecker) -> None:
    """No pod is ever without its schema; the contract Job is held until the last old pod has ended; helm succeeds.

    A rollback past it takes the boundary out of the LedgerGate with all else; its pods are denied all the same.
    """
    roll_out(phased, checker)
    start_straggler(phased)
    until("another pod", lambda: len(checker.running()) == PODS + 1)
    old = {pod["metadata"]["name"] for each in ("controller", "gateway") for pod in phased.pods(each)}
    with PodWatch(phased.plane, phased.namespace) as watch, ThreadPoolExecutor() as pool:
        upgraded = pool.submit(upgrade, phased, LAST)
        until("the rollout's end", lambda: checker.running() == [TAG.format(1), *[TAG.format(LAST)] * PODS], timeout=90)
        until("the contract Job to wait for it", lambda: waited_for(phased) == 1 or checker.errors)
        assert checker.errors == []
        phased.kubectl("delete", "pod", STRAGGLER, "--wait=false")
        upgraded.result()
        await_release(checker, LAST)
        sights = watch.sights
    assert checker.errors == []
    assert set(checker.asked) == {TAG.format(release) for release in USES}
    ended = max(sight.at for sight in sights if sight.name in old and sight.phase == "Deleted")
    migrator = [sight for sight in sights if sight.name.startswith("cliscale-contract")]
    assert migrator[0].gated
    assert min(sight.at for sight in migrator if not sight.gated) > ended
    assert [(run.container, run.code) for run in phased.kubelet.runs][-2:] == [("migrate", 0), ("contract", 0)]
    assert asyncio.run(ledger(phased.database)) == [f"{name}.js" for name in DIRECTORY]
    assert phased.helm.history("cliscale", phased.namespace)[-1]["status"] == "deployed"
    until("nothing to wait for", lambda: not phased.gate_status().get("contracting"))
    phased.helm("rollback", "cliscale", "2", "-n", phased.namespace)
    assert "contracts" not in phased.get("ledgergate/cliscale")["spec"]
    until("the older pods to be refused", lambda: checker.errors or "cannot run" in refusals(phased))
    assert checker.errors == []


def refusals(cliscale: Cliscale) -> str:
    """Return the messages of the ReplicaSets' conditions, which say why pods are refused."""
    found = Application(cliscale.plane, cliscale.namespace).objects("apps/v1", "replicasets")
    return "".join(each.get("message", "") for found in found for each in found["status"].get("conditions", ()))
