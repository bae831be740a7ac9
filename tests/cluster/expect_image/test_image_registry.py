"""The registry's everyday life: it is down and back, asked once for many pods, and a tag moves."""

import json
import re
from pathlib import Path

from testbed.cluster.application import FIRST, THIRD, Application, migrate
from testbed.cluster.installation import Installation
from testbed.registries.repository import Images
from testbed.waiting import until
from tests.cluster.events import events


def metric(installation: Installation, name: str, namespace: str) -> float:
    found = re.search(
        rf'^{name}{{[^}}]*namespace="{namespace}"[^}}]*}} (\S+)$', installation.metrics("controller"), re.MULTILINE
    )
    return float(found[1]) if found else 0.0


def test_a_registry_that_is_down_holds_and_lets_go_when_it_is_back(
    shop: Application, images: Images, installation: Installation
) -> None:
    """An unknown image stays held, with what to do, counted; nothing opens by itself until the registry answers."""
    reference = images.push("1", FIRST)
    images.server.stop()
    try:
        shop.deploy("gateway", None, image=reference)
        shop.await_held("gateway")
        found = until(
            "the reason", lambda: [each for each in events(shop, "Held", "Pod") if "cannot be read" in each["note"]]
        )
        assert reference in found[0]["note"]
        until(
            "the metric", lambda: metric(installation, "ledgergate_unresolved_images", shop.namespace) == 1, timeout=120
        )
        assert len(shop.held("gateway")) == 3
    finally:
        images.server.start()
    shop.await_running("gateway")
    until("the metric to go down", lambda: metric(installation, "ledgergate_unresolved_images", shop.namespace) == 0)


def test_while_the_registry_is_down_the_annotation_counts(shop: Application, images: Images) -> None:
    """A pod goes by its annotation, and its Event says so: one whose revision the ledger has starts, another waits."""
    reference = images.push("1", FIRST)
    images.server.stop()
    try:
        shop.deploy("early", FIRST, image=reference, replicas=1)
        shop.deploy("late", THIRD, image=reference, replicas=1)
        shop.await_running("early", 1)
        shop.await_held("late", 1)
        found = until("the reason", lambda: [each for each in events(shop, "Held", "Pod") if THIRD in each["note"]])
        assert "annotation ledgergate.dev/revision counts" in found[0]["note"]
    finally:
        images.server.start()


def test_a_fresh_process_knows_the_images_of_the_one_before(
    shop: Application, images: Images, installation: Installation
) -> None:
    """Controller killed, registry down: pods of an image that was seen start, those of an unknown one wait."""
    reference, unknown = images.push("1", FIRST), images.push("2", FIRST)
    shop.deploy("gateway", None, image=reference)
    shop.await_running("gateway")
    until("the image in the status", lambda: shop.status().get("images"))
    installation.kill("controller")
    age_tags(shop)
    images.server.stop()
    try:
        installation.ensure()
        shop.deploy("again", None, image=reference)
        shop.deploy("other", None, image=unknown, replicas=1)
        shop.await_running("again")
        shop.await_held("other", 1)
    finally:
        images.server.start()
    shop.await_running("other", 1)


def test_a_tag_that_has_moved_is_noticed(shop: Application, images: Images, installation: Installation) -> None:
    """A tag that was not looked up for a minute is looked up again: the pods go by the image that it leads to now."""
    reference = images.push("1", FIRST)
    shop.deploy("gateway", None, image=reference)
    shop.await_running("gateway")
    until("the image in the status", lambda: shop.status().get("images"))
    installation.kill("controller")
    age_tags(shop)
    images.push("1", THIRD)
    installation.ensure()
    shop.deploy("again", None, image=reference)
    until("the reason", lambda: any(THIRD in each["note"] for each in events(shop, "Held", "Pod")))
    shop.await_held("again")
    until("both images in the status", lambda: len(shop.status()["images"]) == 2)
    former, present = shop.status()["images"]
    assert (former["revision"], former["references"]) == (FIRST, [])
    assert (present["revision"], present["references"]) == (THIRD, [reference])


def test_many_pods_of_few_images_cost_few_reads(
    shop: Application, images: Images, installation: Installation, database: str, tmp_path: Path
) -> None:
    """100 pods of 20 images: a leader reads at most 20 manifests. How soon the pods start, bench/images.py measures."""
    migrate(tmp_path / "migrations", database)
    until("the ledger to be read", lambda: shop.status().get("head") == THIRD)
    # Each has a digest of its own, as images of different builds have.
    names = [f"{images.repository}/app{number}" for number in range(20)]
    references = [images.push("1", THIRD, name, build=name) for name in names]
    lost = installation.log("controller").count("leader.lost")
    for number, reference in enumerate(references):
        shop.deploy(f"app{number}", None, image=reference, replicas=5)
    until("100 running pods", lambda: len(running(shop)) == 100, timeout=300)
    # On a machine that is starved the Lease may be lost; the next leader starts from what the statuses say.
    leaders = 1 + installation.log("controller").count("leader.lost") - lost
    assert images.manifest_reads() <= 20 * leaders


def running(application: Application) -> list[str]:
    """Return the names of all pods of the application that run."""
    pods = application.objects("v1", "pods")
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]


def age_tags(application: Application) -> None:
    """Change the status so that the tags were looked up long ago."""
    entries = [each | {"checkedAt": "2026-01-01T00:00:00Z"} for each in application.status()["images"]]
    patch = json.dumps({"status": {"images": entries}})
    application.plane.kubectl(
        "patch", "ledgergate", "app", "-n", application.namespace, "--subresource=status", "--type=merge", "-p", patch
    )
