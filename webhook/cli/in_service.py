"""Decide whether an installation is meant to stay: the chart's Job must not take it out of service then.

The Job is a hook. Tools that do not know the hook apply it like any other object, when they install ledgergate
(`helm template | kubectl apply`). One of these shows that the removal was asked for:

- the Deployments are gone, or are being deleted (Argo CD's PostDelete);
- helm's record of the release says that it is being uninstalled; helm writes this before it creates a hook;
- the Deployments are of a release whose record is elsewhere (Flux's storageNamespace, helm's driver for SQL), and a
  program with helm in its name has created the Job. helm creates this hook at no other time.
"""

from collections.abc import Sequence

import msgspec

from webhook.api.objects import Metadata, Struct
from webhook.kube.client import KubeClient
from webhook.kube.collection import Collection
from webhook.kube.errors import NotFound

JOB = "ledgergate-release"
_RELEASE = "meta.helm.sh/release-name"
_PARTS = "app.kubernetes.io/name=ledgergate,app.kubernetes.io/component in (webhook,controller)"
_LEAVING = ("uninstalling", "uninstalled")


class Named(Struct, frozen=True):
    """The part of any object that is needed here."""

    metadata: Metadata = Metadata()


class _Managed(Struct, frozen=True):
    manager: str = ""


class _JobMetadata(Struct, frozen=True):
    managed_fields: list[_Managed] | None = None


class _Job(Struct, frozen=True):
    metadata: _JobMetadata = _JobMetadata()


async def find_in_service(cluster: KubeClient, namespace: str) -> str:
    """Return why the installation in a namespace is meant to stay; empty if its removal was asked for.

    Raises:
        ClusterError: the Deployments, the Job or helm's records cannot be read.
    """
    deployments = await _list(cluster, "/apis/apps/v1", namespace, "deployments", _PARTS)
    staying = [each.metadata for each in deployments if not each.metadata.deletion_timestamp]
    if not staying:
        return ""
    releases = {(each.annotations or {}).get(_RELEASE, "") for each in staying}
    if "" in releases:
        return "its Deployments exist and are not being deleted, and no release of helm has them"
    for release in sorted(releases):
        records = [
            record.metadata.labels or {}
            for kind in ("secrets", "configmaps")
            for record in await _list(cluster, "/api/v1", namespace, kind, f"owner=helm,name={release}")
        ]
        if not records:
            creators = await _creators(cluster, namespace)
            if not any("helm" in creator for creator in creators):
                return f"the Job {JOB} was not created by helm, but by {' and '.join(creators) or 'an unknown program'}"
        elif (status := max(records, key=_version).get("status", "unknown")) not in _LEAVING:
            return f"helm's release {release} is not being uninstalled: its status is {status}"
    return ""


async def _list(cluster: KubeClient, group: str, namespace: str, kind: str, labels: str) -> Sequence[Named]:
    path = f"{group}/namespaces/{namespace}/{kind}"
    found, _ = await Collection(cluster, path, Named, (("labelSelector", labels),)).list_objects()
    return [each for each in found if isinstance(each, Named)]


async def _creators(cluster: KubeClient, namespace: str) -> list[str]:
    """Return the programs that have written the Job; kube-controller-manager, which writes its status, is left out."""
    try:
        body = await cluster.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs/{JOB}")
    except NotFound:
        return []
    managers = msgspec.json.decode(body, type=_Job).metadata.managed_fields or []
    return sorted({each.manager for each in managers} - {"kube-controller-manager"})


def _version(labels: dict[str, str]) -> int:
    version = labels.get("version", "")
    return int(version) if version.isascii() and version.isdigit() else 0
