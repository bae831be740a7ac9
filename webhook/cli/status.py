"""`ledgergate status`: gates and held pods, with nothing but a kubeconfig."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import click

from webhook.api.namespace import Namespace
from webhook.api.objects import API_GROUP, API_VERSION, Pod
from webhook.cli import tables
from webhook.cli.options import DONE, USAGE, command, fail, flag
from webhook.core.overview import ListedObjects, PodEvent, ShownGate, build_overview
from webhook.kube.client import KubeClient
from webhook.kube.collection import Collection
from webhook.kube.errors import ClusterError, Forbidden, NotFound
from webhook.kube.kubeconfig import ClusterTarget, connect_to
from webhook.kube.reflector import Object, Unreadable

T = TypeVar("T", bound=Object)
K = TypeVar("K")
Listed = Sequence[Object] | ClusterError

NOT_INSTALLED = (
    "ledgergate is not installed in this cluster: it has no LedgerGates (CustomResourceDefinition "
    f"ledgergates.{API_GROUP}); docs/install.md says how"
)


@command(
    examples="""
  ledgergate status -n shop
  kubectl ledgergate -A
  ledgergate status -A -o json | jq '.held[] | {pod, message}'
"""
)
@flag("--all-namespaces", "-A", is_flag=True, help="Every namespace.")
@flag(
    "--output",
    "-o",
    "as_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How it is written.",
)
async def status(target: ClusterTarget, *, all_namespaces: bool, as_format: str) -> int:
    """Show the gates of a namespace and the pods that are held, each with the reason.

    Asks the API server alone, never a database. Needs to list LedgerGates and pods, and, to tell everything, Events.
    """
    async with connect_to(target) as (cluster, namespace):
        place = None if all_namespaces else namespace
        looked = await list_objects(cluster, place)
    now = datetime.now(UTC)
    found = build_overview(looked.found, now)
    if as_format == "json":
        click.echo(tables.document(found))
    elif looked.installed or found.held:
        tables.show(found, now, where=f"in namespace {place}" if place else "in any namespace")
    for gap in looked.gaps:
        fail(gap, DONE)
    if looked.installed:
        return DONE
    if found.held:
        fail("pods are held all the same: `ledgergate release --all` lets them go", DONE)
    return fail(NOT_INSTALLED, USAGE)


@dataclass(frozen=True, slots=True)
class ClusterListing:
    """What could be listed.

    Args:
        gaps: what could not, and why.
    """

    found: ListedObjects
    installed: bool = True
    gaps: tuple[str, ...] = ()


async def list_objects(cluster: KubeClient, namespace: str | None) -> ClusterListing:
    """List everything at once.

    Args:
        namespace: None for all.

    Raises:
        ClusterError: neither LedgerGates nor pods can be listed.
    """
    unbound, held_notes = "spec.nodeName=", "reason=Held,involvedObject.kind=Pod"
    own = f"metadata.name={namespace}" if namespace else ""
    gates, pods, notes, namespaces = await asyncio.gather(
        _list(cluster, _path(f"/apis/{API_GROUP}/{API_VERSION}", "ledgergates", namespace), ShownGate),
        _list(cluster, _path("/api/v1", "pods", namespace), Pod, unbound),
        _list(cluster, _path("/api/v1", "events", namespace), PodEvent, held_notes),
        _list(cluster, "/api/v1/namespaces", Namespace, own),
    )
    if isinstance(pods, ClusterError):
        raise pods
    if isinstance(gates, ClusterError) and not isinstance(gates, (NotFound, Forbidden)):
        raise gates
    gaps = [
        f"{what} cannot be listed: {failure}"
        for what, failure in (("LedgerGates", gates), ("Events, which tell why a pod is held,", notes))
        if isinstance(failure, ClusterError) and not isinstance(failure, NotFound)
    ]
    gaps += [
        f"LedgerGate {'/'.join(one.metadata.key)} is not one that this version can read: {one.error}"
        for one in _found(gates, Unreadable)
    ]
    listed = ListedObjects(
        _found(gates, ShownGate), _found(pods, Pod), _found(notes, PodEvent), _found(namespaces, Namespace)
    )
    return ClusterListing(listed, installed=not isinstance(gates, NotFound), gaps=tuple(gaps))


def _path(api: str, resource: str, namespace: str | None) -> str:
    return f"{api}/namespaces/{namespace}/{resource}" if namespace else f"{api}/{resource}"


async def _list(cluster: KubeClient, path: str, kind: type[T], fields: str = "") -> Listed:
    query = (("fieldSelector", fields),) if fields else ()
    try:
        items, _ = await Collection(cluster, path, kind, query).list_objects()
    except ClusterError as failure:
        return failure
    return items


def _found(listed: Listed, kind: type[K]) -> list[K]:
    """Give what was listed of one kind; nothing where it could not be listed."""
    return [] if isinstance(listed, ClusterError) else [item for item in listed if isinstance(item, kind)]
