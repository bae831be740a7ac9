"""A small workload of every kind; each pod has a label with the release that created it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testbed.cluster.application import REVISION

REPLICAS = 2
RELEASE = "release"
"""Pod label: the version of the workload that created the pod."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One workload of the tests.

    Attributes:
        name: Its name.
        kind: Its kind in the API.
        pods: How many pods of it run at once.
        updates: Whether its pods are replaced when its template changes, unlike those of a Job.
    """

    name: str
    kind: str
    pods: int = REPLICAS
    updates: bool = True


KINDS = (
    Kind("rolling", "Deployment"),
    Kind("recreate", "Deployment"),
    Kind("ordered", "StatefulSet"),
    Kind("everywhere", "DaemonSet", pods=1),
    Kind("once", "Job", pods=1, updates=False),
    Kind("regular", "CronJob", pods=1, updates=False),
)


def manifest(kind: Kind, release: str, revision: str) -> Mapping[str, Any]:
    """Return the manifest of a workload whose pods expect a revision."""
    labels = {"app": kind.name}
    template: dict[str, dict[str, Any]] = {
        "metadata": {"labels": {**labels, "guarded": "true", RELEASE: release}, "annotations": {REVISION: revision}},
        "spec": {"containers": [{"name": "main", "image": "app"}], "terminationGracePeriodSeconds": 0},
    }
    selector = {"matchLabels": labels}
    job = {"template": template | {"spec": template["spec"] | {"restartPolicy": "Never"}}}
    spec: dict[str, Any]
    match kind.kind:
        case "Deployment":
            strategy = "Recreate" if kind.name == "recreate" else "RollingUpdate"
            spec = {"replicas": kind.pods, "selector": selector, "strategy": {"type": strategy}, "template": template}
        case "StatefulSet":
            spec = {"replicas": kind.pods, "selector": selector, "serviceName": kind.name, "template": template}
        case "DaemonSet":
            spec = {"selector": selector, "template": template}
        case "Job":
            spec = job
        case _:
            # One Job at a time, so that the Job of the first minute is still the only one minutes later.
            spec = {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job}}
    group = "batch/v1" if "Job" in kind.kind else "apps/v1"
    return {"apiVersion": group, "kind": kind.kind, "metadata": {"name": kind.name}, "spec": spec}
