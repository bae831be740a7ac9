"""`ledgergate status`: the gates and held pods of a cluster."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import click

from migrations.cli.conventions import Exit, flag
from webhook.api.namespace import Namespace
from webhook.api.objects import API_GROUP, API_VERSION, Pod
from webhook.cli import tables
from webhook.cli.options import cluster_command, print_note, report_failure
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


@cluster_command(
    "ledgergate status -n shop",
    "kubectl ledgergate -A",
    "ledgergate status -A -o json | jq '.held[] | {pod, message}'",
)
@flag("--all-namespaces", "Every namespace.", "-A", is_flag=True)
@flag(
    "--output",
    "Output format.",
    "-o",
    "output_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
)
async def status(target: ClusterTarget, *, all_namespaces: bool, output_format: str) -> int:
    """Show the gates of a namespace and the pods that they hold, each with the reason.

    Asks the API server, never a database. Needs the right to list LedgerGates and pods; to show everything, Events and
    namespaces too. Exits 2 when ledgergate is not installed or a right is missing, 4 when the API server does not
    answer.
    """
    async with connect_to(target) as (cluster, namespace):
        searched = None if all_namespaces else namespace
        listing = await list_objects(cluster, searched)
    now = datetime.now(UTC)
    overview = build_overview(listing.objects, now)
    if output_format == "json":
        click.echo(tables.format_json(overview))
    elif listing.installed or overview.held:
        tables.print_overview(overview, now, where=f"in namespace {searched}" if searched else "in any namespace")
    for gap in listing.gaps:
        print_note(gap)
    if listing.installed:
        return Exit.DONE
    if overview.held:
        print_note("pods are still held: `ledgergate release --all` releases them")
    return report_failure(NOT_INSTALLED, Exit.USAGE)


@dataclass(frozen=True, slots=True)
class ClusterListing:
    """The objects that could be listed.

    Args:
        installed: whether the cluster has the CustomResourceDefinition.
        gaps: what could not be listed or read, and why, one sentence each.
    """

    objects: ListedObjects
    installed: bool = True
    gaps: tuple[str, ...] = ()


async def list_objects(cluster: KubeClient, namespace: str | None) -> ClusterListing:
    """List gates, pods, Events and namespaces at once.

    Args:
        namespace: the namespace to list; None for all.

    Raises:
        ClusterError: the pods cannot be listed, or the API server does not answer about LedgerGates.
    """
    unscheduled, held = "spec.nodeName=", "reason=Held,involvedObject.kind=Pod"
    only = f"metadata.name={namespace}" if namespace else ""
    gates, pods, events, namespaces = await asyncio.gather(
        _list(cluster, _path(f"/apis/{API_GROUP}/{API_VERSION}", "ledgergates", namespace), ShownGate),
        _list(cluster, _path("/api/v1", "pods", namespace), Pod, unscheduled),
        _list(cluster, _path("/api/v1", "events", namespace), PodEvent, held),
        _list(cluster, "/api/v1/namespaces", Namespace, only),
    )
    if isinstance(pods, ClusterError):
        raise pods
    if isinstance(gates, ClusterError) and not isinstance(gates, (NotFound, Forbidden)):
        raise gates
    gaps = [
        f"{what} cannot be listed: {failure}"
        for what, failure in (("LedgerGates", gates), ("Events, which say why a pod is held,", events))
        if isinstance(failure, ClusterError) and not isinstance(failure, NotFound)
    ]
    gaps += [
        f"LedgerGate {'/'.join(gate.metadata.key)} cannot be read by this version: {gate.error}"
        for gate in _of_kind(gates, Unreadable)
    ]
    objects = ListedObjects(
        _of_kind(gates, ShownGate), _of_kind(pods, Pod), _of_kind(events, PodEvent), _of_kind(namespaces, Namespace)
    )
    return ClusterListing(objects, installed=not isinstance(gates, NotFound), gaps=tuple(gaps))


def _path(api: str, resource: str, namespace: str | None) -> str:
    return f"{api}/namespaces/{namespace}/{resource}" if namespace else f"{api}/{resource}"


async def _list(cluster: KubeClient, path: str, kind: type[T], field_selector: str = "") -> Listed:
    query = (("fieldSelector", field_selector),) if field_selector else ()
    try:
        items, _ = await Collection(cluster, path, kind, query).list_objects()
    except ClusterError as failure:
        return failure
    return items


def _of_kind(listed: Listed, kind: type[K]) -> list[K]:
    """Return the objects of one type; none where they could not be listed."""
    return [] if isinstance(listed, ClusterError) else [item for item in listed if isinstance(item, kind)]
