"""The pods that `ledgergate check` asks about."""

from typing import Any

import pytest

from webhook.manifests.sample_pods import ImageError, SamplePod, sample_pods, with_images

SPEC = {"containers": [{"name": "main", "image": "app:1"}], "initContainers": [{"name": "migrate", "image": "app:1"}]}
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "x"}, "annotations": {"ledgergate.dev/revision": "a"}},
    "spec": SPEC,
}


def workload(kind: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "namespace": "shop"}, "spec": spec}


def only(*objects: Any) -> SamplePod:
    (found,) = sample_pods(objects)
    return found


@pytest.mark.parametrize(
    "found",
    [
        workload("Deployment", template=TEMPLATE),
        workload("CronJob", jobTemplate={"spec": {"template": TEMPLATE}}),
        {"kind": "List", "items": [workload("Deployment", template=TEMPLATE)]},
    ],
)
def test_the_pod_is_that_of_the_template(found: dict[str, Any]) -> None:
    """Labels, annotations and spec decide, so they are the template's own."""
    sample = only(found)
    assert (sample.title.partition("/")[2], sample.namespace) == ("x", "shop")
    assert sample.manifest["metadata"] == {"generateName": "x-", **TEMPLATE["metadata"]}
    assert sample.manifest["spec"] == SPEC


def test_what_has_no_pods_is_left_out() -> None:
    """Rendered manifests hold much else."""
    others = [None, "text", {"kind": "Service", "spec": {"ports": []}}, {"kind": "ConfigMap"}, {"kind": "List"}]
    assert list(sample_pods(others)) == []


def test_an_image_is_replaced() -> None:
    """By the container's name, or alone where there is one; init containers by their name only."""
    sample = only(workload("Deployment", template=TEMPLATE))
    changed = with_images(sample, ["app:2", "migrate=app:3"]).manifest["spec"]
    assert changed["containers"] == [{"name": "main", "image": "app:2"}]
    assert changed["initContainers"] == [{"name": "migrate", "image": "app:3"}]
    assert sample.manifest["spec"] == SPEC


def test_a_container_that_is_not_there_is_an_error() -> None:
    """The message names those that are."""
    sample = only(workload("Deployment", template=TEMPLATE))
    with pytest.raises(ImageError, match="has no container 'other', but main, migrate"):
        with_images(sample, ["other=app:2"])
    two = {**TEMPLATE, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}
    with pytest.raises(ImageError, match="CONTAINER one of a, b"):
        with_images(only(workload("Deployment", template=two)), ["app:2"])
