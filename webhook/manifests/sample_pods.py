"""A pod as a workload's controller would create it, for a dry run. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webhook.manifests.pod_templates import TEMPLATE_PATHS

_LONGEST_PREFIX = 200  # characters of a name that a generated name begins with


class ImageError(ValueError):
    """An image for which no container is named, or one that does not exist; the message names the containers."""


@dataclass(frozen=True, slots=True)
class SamplePod:
    """One pod of a workload.

    Args:
        title: the workload as kubectl prints it, ``deployment/gateway``.
        namespace: the workload's; empty where it is not written.
        manifest: the pod.
    """

    title: str
    namespace: str
    manifest: Mapping[str, Any]


def sample_pods(objects: Iterable[Any]) -> Iterator[SamplePod]:
    """Yield a pod for each object that is a pod or has a template of one, also for those of a List."""
    for each in objects:
        if not isinstance(each, dict):
            continue
        kind, items = str(each.get("kind", "")), each.get("items")
        if kind.endswith("List") and isinstance(items, list):
            yield from sample_pods(items)
            continue
        template = each if kind == "Pod" else _template(each)
        if template is not None:
            yield _sample(each, kind, template)


def with_images(sample: SamplePod, images: Sequence[str]) -> SamplePod:
    """Return the pod with other images.

    Args:
        images: each ``CONTAINER=IMAGE``; ``IMAGE`` alone where the pod has one container, init containers not counted.

    Raises:
        ImageError: a container is not named, or does not exist.
    """
    spec = dict(sample.manifest.get("spec") or {})
    fields = [field for field in ("containers", "initContainers") if spec.get(field)]
    changed = {field: [dict(each) for each in spec[field]] for field in fields}
    named = {each.get("name"): each for field in fields for each in changed[field]}
    for text in images:
        container, separator, image = text.partition("=")
        if not separator:
            main = changed.get("containers", [])
            if len(main) != 1:
                raise ImageError(
                    f"{sample.title}: expected CONTAINER=IMAGE, CONTAINER one of {', '.join(map(str, named))}"
                )
            container, image = str(main[0].get("name")), text
        if container not in named:
            raise ImageError(f"{sample.title} has no container {container!r}, but {', '.join(map(str, named))}")
        named[container]["image"] = image
    return SamplePod(sample.title, sample.namespace, {**sample.manifest, "spec": spec | changed})


def _template(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for path in TEMPLATE_PATHS:
        node: Any = found
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        if isinstance(node, dict) and isinstance(node.get("spec"), dict):
            return node
    return None


def _sample(found: Mapping[str, Any], kind: str, template: Mapping[str, Any]) -> SamplePod:
    metadata = found.get("metadata") or {}
    name, namespace = str(metadata.get("name") or metadata.get("generateName") or ""), metadata.get("namespace") or ""
    declared = template.get("metadata") or {}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{name[:_LONGEST_PREFIX].rstrip('-.')}-",
            "labels": declared.get("labels") or {},
            "annotations": declared.get("annotations") or {},
        },
        "spec": template.get("spec") or {},
    }
    return SamplePod(f"{kind.lower()}/{name}", str(namespace), pod)
