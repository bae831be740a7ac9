"""Rollouts in which nothing but the image changes: its label holds the pods, and lets them go."""

import json
from pathlib import Path

from testbed.cluster.application import FIRST, SECOND, THIRD, Application, migrate
from testbed.cluster.helm import Helm
from testbed.registries.repository import Images
from testbed.waiting import until
from tests.cluster.events import events


def kubectl(application: Application, *arguments: str) -> str:
    return application.plane.kubectl(*arguments, "-n", application.namespace)


def test_set_image_alone_is_held_and_released_by_the_label(
    shop: Application, images: Images, database: str, tmp_path: Path
) -> None:
    """`kubectl set image` alone: the new pods wait for what the new image needs, and start once the ledger has it."""
    shop.deploy("gateway", None, image=images.push("1", FIRST))
    shop.await_running("gateway")
    kubectl(shop, "set", "image", "deployment/gateway", f"main={images.push('2', THIRD)}")
    until("a held pod", lambda: shop.held("gateway"))
    assert len(shop.running("gateway")) == 3, "the pods of version 1 stay"
    until("the reason", lambda: any(THIRD in event["note"] for event in events(shop, "Held", "Pod")))
    migrate(tmp_path / "migrations", database)
    shop.await_running("gateway")
    (second,) = [each for each in shop.status()["images"] if each.get("revision") == THIRD]
    assert second["references"] == [f"{images.server.authority}/{images.repository}:2"]
    assert second["image"].startswith(f"{images.server.authority}/{images.repository}@sha256:")


def test_a_known_image_is_judged_at_admission(shop: Application, images: Images) -> None:
    """Once an image is known, its pods are decided in admission: no pod is held that may run."""
    shop.deploy("gateway", None, image=images.push("1", FIRST))
    shop.await_running("gateway")
    until("the image in the status", lambda: shop.status().get("images"))
    shop.deploy("again", None, image=f"{images.server.authority}/{images.repository}:1", replicas=5)
    until("five pods", lambda: len(shop.pods("again")) == 5)
    shop.await_running("again", 5)
    held = {event["regarding"]["name"] for event in events(shop, "Held", "Pod")}
    assert not held & {pod["metadata"]["name"] for pod in shop.pods("again")}
    assert images.manifest_reads() == 1


def test_an_undo_goes_by_the_older_label(shop: Application, images: Images) -> None:
    """`kubectl rollout undo` to an image whose needs the ledger meets starts, although version 2 is held."""
    shop.deploy("gateway", None, image=images.push("1", FIRST))
    shop.await_running("gateway")
    kubectl(shop, "set", "image", "deployment/gateway", f"main={images.push('2', SECOND)}")
    until("a held pod", lambda: shop.held("gateway"))
    kubectl(shop, "rollout", "undo", "deployment/gateway")
    shop.await_running("gateway")


def test_an_older_annotation_changes_nothing_and_is_reported(shop: Application, images: Images) -> None:
    """The annotation of version 1 on the template lets no pod of version 2 start; apply and an Event name both."""
    shop.deploy("gateway", FIRST, image=images.push("1", FIRST))
    shop.await_running("gateway")
    second = images.push("2", THIRD)
    kubectl(shop, "set", "image", "deployment/gateway", f"main={second}")
    until("a held pod", lambda: shop.held("gateway"))
    found = until("an Event", lambda: events(shop, "ImageCounts", "Pod"))
    assert FIRST in found[0]["note"]
    assert THIRD in found[0]["note"]
    assert "ledgergate.dev/revision" in found[0]["note"]
    until("the image in the status", lambda: any(each.get("revision") == THIRD for each in shop.status()["images"]))
    patch = json.dumps({"spec": {"template": {"metadata": {"labels": {"touched": "yes"}}}}})
    command = ("patch", "deployment", "gateway", "-n", shop.namespace, "--dry-run=server", "-p", patch)

    def warned() -> str:
        said = shop.plane.kubectl(*command, check=False)
        return said if "the label counts" in said else ""

    said = until("the warning at apply", warned)
    assert THIRD in said
    assert FIRST in said


def test_labels_that_differ_refuse_the_pod(shop: Application, images: Images) -> None:
    """Two containers whose images need different revisions: no pod starts, and the reason names both."""
    first, second = images.push("1", FIRST), images.push("2", SECOND)
    containers = [{"name": "main", "image": first}, {"name": "side", "image": second}]
    shop.deploy("gateway", None, replicas=1, containers=containers)
    shop.await_held("gateway", 1)
    found = until(
        "the reason", lambda: [each for each in events(shop, "Held", "Pod") if "different revisions" in each["note"]]
    )
    assert FIRST in found[0]["note"]
    assert SECOND in found[0]["note"]


def test_one_container_can_be_named(shop: Application, images: Images) -> None:
    """With `container: NAME` the other images are not asked: one that cannot be read holds nothing."""
    shop.gate(expect={"image": {"container": "main"}})
    until("the edit to count", lambda: shop.status().get("observedGeneration") == 2)
    containers = [{"name": "main", "image": images.push("1", FIRST)}, {"name": "side", "image": "localhost:1/none:1"}]
    shop.deploy("gateway", None, replicas=1, containers=containers)
    shop.await_running("gateway", 1)


def test_an_image_without_label_leaves_it_to_the_annotation(shop: Application, images: Images) -> None:
    """The annotation counts as before, and a pod with neither is undeclared."""
    bare = images.push("1", None, note="no label")
    shop.deploy("late", THIRD, image=bare, replicas=1)
    shop.deploy("early", FIRST, image=bare, replicas=1)
    shop.deploy("bare", None, image=bare, replicas=1)
    shop.await_running("early", 1)
    shop.await_running("bare", 1)
    shop.await_held("late", 1)


def test_a_pinned_pod_runs_what_was_judged(shop: Application, images: Images) -> None:
    """With `pin` a released pod has the digest in place of the tag, whatever the tag leads to later."""
    shop.gate(expect={"image": {"pin": True}})
    until("the edit to count", lambda: shop.status().get("observedGeneration") == 2)
    reference = images.push("1", FIRST)
    shop.deploy("gateway", None, image=reference, replicas=1)
    shop.await_running("gateway", 1)
    (pod,) = shop.pods("gateway")
    (known,) = shop.status()["images"]
    assert pod["spec"]["containers"][0]["image"] == known["image"]
    assert "@sha256:" in known["image"]


def test_helm_upgrade_without_any_revision(
    shop: Application, images: Images, helm: Helm, database: str, tmp_path: Path
) -> None:
    """A chart that says nothing of revisions: `helm upgrade --set tag=2` alone is held, and released by the label."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (chart / "templates" / "gateway.yaml").write_text(TEMPLATE)
    repository = images.push("1", FIRST).rpartition(":")[0]
    images.push("2", THIRD)
    flags = ("-n", shop.namespace, "--set", f"repository={repository}")
    helm("install", "shop", str(chart), *flags, "--set-string", "tag=1")
    shop.await_running("gateway")
    helm("upgrade", "shop", str(chart), *flags, "--set-string", "tag=2")
    until("a held pod", lambda: shop.held("gateway"))
    until("the reason", lambda: any(THIRD in event["note"] for event in events(shop, "Held", "Pod")))
    assert len(shop.running("gateway")) == 3
    migrate(tmp_path / "migrations", database)
    shop.await_running("gateway")
    annotated = [pod["metadata"].get("annotations", {}) for pod in shop.pods("gateway")]
    assert not any("revision" in name for annotations in annotated for name in annotations)


TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway}
spec:
  replicas: 3
  selector: {matchLabels: {app: gateway}}
  template:
    metadata: {labels: {app: gateway, guarded: "true"}}
    spec:
      containers: [{name: main, image: "{{ .Values.repository }}:{{ .Values.tag }}"}]
"""
