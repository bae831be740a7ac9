"""Whether the chart's Job may take an installation out of service, judged from the real API server's objects."""

import json
import uuid
from collections.abc import Iterator

import pytest

from testbed.controlplane import ControlPlane
from webhook.cli.in_service import JOB, find_in_service
from webhook.kube.kubeconfig import connect


@pytest.fixture
def place(plane: ControlPlane) -> Iterator[str]:
    """An empty namespace."""
    name = f"release-{uuid.uuid4().hex[:6]}"
    plane.create_namespace(name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


def deployment(plane: ControlPlane, place: str, release: str = "", name: str = "webhook") -> None:
    """Create one of ledgergate's Deployments, without pods; `release` is the release of helm that has it."""
    labels = {"app.kubernetes.io/name": "ledgergate", "app.kubernetes.io/component": name}
    metadata = {"name": f"ledgergate-{name}", "namespace": place, "labels": labels}
    if release:
        metadata["annotations"] = {"meta.helm.sh/release-name": release}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    plane.apply(json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}))


def records(plane: ControlPlane, place: str, release: str, statuses: dict[str, str], kind: str = "Secret") -> None:
    """Create helm's records of a release: a status for each version."""
    for version, status in statuses.items():
        labels = {"owner": "helm", "name": release, "status": status, "version": version.removeprefix("v")}
        metadata = {"name": f"sh.helm.release.v1.{release}.{version}", "namespace": place, "labels": labels}
        plane.apply(json.dumps({"apiVersion": "v1", "kind": kind, "metadata": metadata}))


def job(plane: ControlPlane, place: str, manager: str) -> None:
    """Create the Job, suspended, as a program of this name."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": JOB, "namespace": place}}
    body["spec"] = {"suspend": True, "template": {"spec": pod}}
    plane.kubectl("create", f"--field-manager={manager}", "-f", "-", stdin=json.dumps(body))


async def reason(plane: ControlPlane, place: str) -> str:
    async with await connect(plane.kubeconfig, "test") as cluster:
        return await find_in_service(cluster, place)


async def test_without_deployments_nothing_is_in_service(plane: ControlPlane, place: str) -> None:
    """Argo CD's hook runs after all else was deleted; other Deployments there do not count."""
    assert await reason(plane, place) == ""
    plane.kubectl("create", "deployment", "other", "--image=a", "--replicas=0", "-n", place)
    assert await reason(plane, place) == ""


async def test_deployments_that_are_being_deleted_do_not_count(plane: ControlPlane, place: str) -> None:
    """The installation is in service as long as one Deployment is not being deleted."""
    for name in ("webhook", "controller"):
        deployment(plane, place, name=name)
        patch = json.dumps({"metadata": {"finalizers": ["test.ledgergate.dev/wait"]}})
        plane.kubectl("patch", "deployment", f"ledgergate-{name}", "-n", place, "-p", patch)
    assert "no release of helm" in await reason(plane, place)
    plane.kubectl("delete", "deployment", "ledgergate-webhook", "-n", place, "--wait=false")
    assert "no release of helm" in await reason(plane, place)
    plane.kubectl("delete", "deployment", "ledgergate-controller", "-n", place, "--wait=false")
    assert await reason(plane, place) == ""
    gone = json.dumps({"metadata": {"finalizers": None}})
    for name in ("webhook", "controller"):
        plane.kubectl("patch", "deployment", f"ledgergate-{name}", "-n", place, "-p", gone)


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ({"v1": "uninstalling"}, ""),
        ({"v9": "superseded", "v10": "uninstalling"}, ""),
        ({"v9": "uninstalling", "v10": "deployed"}, "its status is deployed"),  # `helm rollback` after a failed end
        ({"v1": "uninstalling", "v2": "deployed"}, "its status is deployed"),
        ({"v1": "pending-install"}, "its status is pending-install"),
        ({"v1": "failed"}, "its status is failed"),
    ],
)
async def test_the_newest_record_of_helm_counts(
    plane: ControlPlane, place: str, kind: str, statuses: dict[str, str], said: str
) -> None:
    """Helm marks a release before it creates the hook, so the creator of the Job does not matter."""
    deployment(plane, place, "platform")
    records(plane, place, "platform", statuses, kind)
    records(plane, place, "other", {"v1": "uninstalling", "v99": "deployed"}, kind)
    job(plane, place, "helm")
    found = await reason(plane, place)
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize(
    ("manager", "said"),
    [
        ("helm", ""),
        ("helm-controller", ""),
        ("kubectl", "not created by helm, but by kubectl"),
        ("argocd-controller", "by argocd-controller"),
    ],
)
async def test_where_the_records_are_elsewhere_the_creator_counts(
    plane: ControlPlane, place: str, manager: str, said: str
) -> None:
    """Flux keeps them in the HelmRelease's namespace; only a tool of helm creates the hook, and only at the end."""
    deployment(plane, place, "platform")
    assert "an unknown program" in await reason(plane, place)
    job(plane, place, manager)
    found = await reason(plane, place)
    assert said in found
    assert bool(said) == bool(found)
