"""The client of the API server: kubernetes_asyncio connects and authenticates, msgspec decodes the JSON."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.http_exceptions import LineTooLong
from kubernetes_asyncio.client import ApiClient

from webhook.api.lease import Lease
from webhook.api.namespace import ADMISSION_LABEL, Namespace
from webhook.api.objects import API_GROUP, API_VERSION, GATED_LABEL, KeptPod, LedgerGate, Metadata, Pod, Secret, Struct
from webhook.api.owners import Owner, OwnerKind, lacks_pods
from webhook.api.service_cidr import ServiceCIDR
from webhook.core.patches import Patch
from webhook.core.selector import Selector
from webhook.kube.collection import PAGE, Collection, ListMetadata, Query, Status
from webhook.kube.decoding import decode
from webhook.kube.errors import ClusterError, Unavailable, cluster_error

WAKING_ANNOTATION = "ledgergate.dev/released-at"

REQUEST_TIMEOUT = 10.0
"""Seconds for any request but a watch."""

PARALLEL_READS = 32
"""Reads and lists at a time. A start reads a thousand Secrets, and a change lists the owners of pods in a thousand
namespaces."""


class _ServerAddress(Struct, frozen=True):
    server_address: str = ""


class _ApiVersions(Struct, frozen=True):
    server_addresses: tuple[_ServerAddress, ...] = msgspec.field(default=(), name="serverAddressByClientCIDRs")


class _OwnerList(Struct, frozen=True):
    items: list[msgspec.Raw]
    metadata: ListMetadata = ListMetadata()


class KubeClient:
    """A connection to one API server.

    Args:
        client: an authenticated client, which is closed with this object.
        watches: another one for watches and reads, without a limit of connections, closed too; None to use `client`.
            aiohttp gives a client 100 connections. `client` writes: the Lease, releases, statuses, conditions, wake-ups
            and Events are at most 70 requests at a time, so none of them waits for a connection.
    """

    def __init__(self, client: ApiClient, watches: ApiClient | None = None) -> None:
        self.client = client
        self._watches = watches or client
        self._reads = asyncio.Semaphore(PARALLEL_READS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        if self._watches is not self.client:
            await self._watches.close()

    def ledger_gates(self) -> Collection[LedgerGate]:
        """Every LedgerGate."""
        return Collection(self, f"/apis/{API_GROUP}/{API_VERSION}/ledgergates", LedgerGate)

    def unbound_pods(self) -> Collection[Pod]:
        """Every pod without a node: all held pods are among them, even one whose label was removed."""
        return Collection(self, "/api/v1/pods", KeptPod, (("fieldSelector", "spec.nodeName="),))

    def gated_pods(self) -> Collection[Pod]:
        """Every pod with the label that marks our scheduling gate or readiness gates, on a node or not."""
        return Collection(self, "/api/v1/pods", KeptPod, (("labelSelector", f"{GATED_LABEL}=true"),))

    @property
    def server_host(self) -> str:
        """The API server's host name or address."""
        return urlsplit(self.client.configuration.host or "").hostname or ""

    async def advertised_hosts(self) -> tuple[str, ...]:
        """Return the hosts under which the API server that answers wants to be reached. Every account may ask for them.

        https://kubernetes.io/docs/reference/kubernetes-api/definitions/api-versions-v1-meta/

        Raises:
            ClusterError: they cannot be read.
        """
        body = await self.get("/api", {})
        try:
            found = msgspec.json.decode(body, type=_ApiVersions).server_addresses
            return tuple(urlsplit(f"//{each.server_address}").hostname or "" for each in found)
        except ValueError as error:  # msgspec's DecodeError is one too
            raise ClusterError(f"/api cannot be decoded: {error}") from error

    def service_cidrs(self) -> Collection[ServiceCIDR]:
        """Every ServiceCIDR."""
        return Collection(self, "/apis/networking.k8s.io/v1/servicecidrs", ServiceCIDR)

    def ledger_gates_of(self, namespace: str) -> Collection[LedgerGate]:
        """Every LedgerGate of a namespace."""
        return Collection(self, f"/apis/{API_GROUP}/{API_VERSION}/namespaces/{namespace}/ledgergates", LedgerGate)

    async def try_to_create_pod(self, namespace: str, manifest: Mapping[str, Any]) -> tuple[Pod, tuple[str, ...]]:
        """Create a pod by server-side dry run, and return it as it would be stored, with the warnings.

        https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run

        Raises:
            Forbidden: a webhook denies it, or a right is missing.
        """
        path, query = _core(namespace, "pods"), {"dryRun": "All"}
        warnings: list[str] = []
        body = await self._request(self.client, "POST", path, query, dict(manifest), warnings=warnings)
        return decode(body, Pod), tuple(warnings)

    def selected_pods(self, namespace: str, selector: Selector) -> Collection[Pod]:
        """Every pod of a namespace that a LedgerGate's selector matches."""
        query = (("labelSelector", selector.text),) if selector.terms else ()
        return Collection(self, _core(namespace, "pods"), Pod, query)

    def opted_in(self) -> Collection[Namespace]:
        """Every namespace with the opt-in label, whatever its value."""
        return Collection(self, "/api/v1/namespaces", Namespace, (("labelSelector", ADMISSION_LABEL),))

    def lease(self, namespace: str, name: str) -> Collection[Lease]:
        """One Lease; RBAC accepts the field selector for a right on that name alone."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        return Collection(self, path, Lease, (("fieldSelector", f"metadata.name={name}"),))

    async def namespace(self, name: str) -> Namespace:
        """Read one namespace."""
        return decode(await self.get(f"/api/v1/namespaces/{name}", {}), Namespace)

    async def read_secret(self, namespace: str, name: str) -> Secret:
        """Read one Secret.

        Raises:
            ClusterError: it cannot be read.
        """
        body = await self.get(f"{_core(namespace, 'secrets')}/{name}", {})
        try:
            return decode(body, Secret)
        except msgspec.DecodeError as error:
            raise ClusterError(f"Secret {namespace}/{name} cannot be decoded: {error}") from error

    async def patch_pod(self, pod: Metadata, patch: Patch) -> None:
        """Apply a JSON patch to a pod."""
        await self.request("PATCH", f"{_core(pod.namespace, 'pods')}/{pod.name}", body=patch, content="json-patch")

    async def delete_pod(self, pod: Metadata) -> None:
        """Delete a pod, unless it has changed since it was read (409)."""
        conditions = {"uid": pod.uid, "resourceVersion": pod.resource_version}
        path = f"{_core(pod.namespace, 'pods')}/{pod.name}"
        await self.request("DELETE", path, body={"preconditions": conditions})

    async def patch_pod_conditions(self, pod: Metadata, conditions: Sequence[Mapping[str, str]]) -> None:
        """Merge conditions, by their type, into a pod's status."""
        path = f"{_core(pod.namespace, 'pods')}/{pod.name}/status"
        # With the uid the API server refuses the patch (409) where another pod has the same name by now.
        body = {"metadata": {"uid": pod.uid}, "status": {"conditions": list(conditions)}}
        await self.request("PATCH", path, body=body, content="strategic-merge-patch")

    async def owners_short_of_pods(self, kind: OwnerKind, namespace: str, *, cached: bool) -> Sequence[Owner]:
        """List the owners of one kind that have fewer pods than they should have.

        Args:
            namespace: where; empty for every namespace.
            cached: whether the API server may answer from its watch cache, which can be a moment old but costs etcd
                nothing (`resourceVersion=0`).
        """
        # The API server ignores a limit where it answers from its cache, and then sends everything.
        query = {"limit": str(PAGE), **({"resourceVersion": "0"} if cached else {})}
        found: list[Owner] = []
        while True:
            answer = await self.get(_workloads(kind, namespace), query)
            page = decode(answer, _OwnerList)
            # One by one: of ten thousand owners in a cluster a few are short of pods.
            every = (decode(item, Owner) for item in page.items)
            found.extend(owner for owner in every if lacks_pods(kind, owner))
            if not page.metadata.continue_token:
                return found
            query = {"limit": str(PAGE), "continue": page.metadata.continue_token}

    async def owner(self, kind: OwnerKind, namespace: str, name: str) -> Owner:
        """Read one owner of pods."""
        path = f"{_workloads(kind, namespace)}/{name}"
        return decode(await self.get(path, {}), Owner)

    async def stateful_set(self, namespace: str, name: str) -> Owner | None:
        """Return a StatefulSet, by a list of that name; None where there is none.

        The controller may list StatefulSets, for their wake-up, and not get them.
        """
        path, query = _workloads(OwnerKind.STATEFUL_SET, namespace), {"fieldSelector": f"metadata.name={name}"}
        found = decode(await self.get(path, query), _OwnerList).items
        return decode(found[0], Owner) if found else None

    async def wake(self, kind: OwnerKind, owner: Metadata, at: datetime) -> None:
        """Annotate an owner of pods with a time, so that its controller reconciles it now, whatever its back-off."""
        annotations = {WAKING_ANNOTATION: at.isoformat().replace("+00:00", "Z")}
        body = {"metadata": {"uid": owner.uid, "annotations": annotations}}
        await self.request(
            "PATCH", f"{_workloads(kind, owner.namespace)}/{owner.name}", body=body, content="merge-patch"
        )

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge fields into a LedgerGate's status."""
        path = f"/apis/{API_GROUP}/{API_VERSION}/namespaces/{namespace}/ledgergates/{name}/status"
        await self.request("PATCH", path, body={"status": dict(status)}, content="merge-patch")

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Create an Event."""
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        await self.request("POST", path, body=dict(body))

    async def request(
        self, method: str, path: str, *, query: Query | None = None, body: object = None, content: str = ""
    ) -> bytes:
        """Send a request and return the response's body.

        Args:
            content: type of a PATCH: ``json-patch``, ``merge-patch`` or ``strategic-merge-patch``.

        Raises:
            ClusterError: the request failed, see :mod:`webhook.kube.errors`.
        """
        return await self._request(self.client, method, path, query or {}, body, content)

    async def get(self, path: str, query: Query) -> bytes:
        """Send a GET over the connections of the watches, when fewer than :data:`PARALLEL_READS` others run.

        Raises:
            ClusterError: the request failed.
        """
        async with self._reads:
            return await self._request(self._watches, "GET", path, query)

    async def _request(
        self,
        client: ApiClient,
        method: str,
        path: str,
        query: Query,
        body: object = None,
        content: str = "",
        warnings: list[str] | None = None,
    ) -> bytes:
        try:
            response = await self._send(client, method, path, query, body, content, REQUEST_TIMEOUT)
            async with response:
                received: bytes = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{method} {path}: {str(error) or type(error).__name__}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise cluster_error(response.status, _error_message(received))
        if warnings is not None:
            warnings.extend(map(_warning_text, response.headers.getall("Warning", [])))
        return received

    async def stream(self, path: str, query: Query, silence: float) -> AsyncIterator[bytes]:
        """Yield the lines of a long response.

        Args:
            silence: seconds without a byte after which the connection counts as dead.

        Raises:
            ClusterError: the request failed, or the connection was lost.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=REQUEST_TIMEOUT, sock_read=silence)
        try:
            async with await self._send(self._watches, "GET", path, query, None, "", timeout) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise cluster_error(response.status, _error_message(await response.read()))
                async for line in response.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LineTooLong) as error:
            # A line that exceeds aiohttp's buffer raises LineTooLong, which is not a ClientError (in older versions a
            # ValueError). The collection is then listed again, and a list has no such limit.
            raise Unavailable(f"watch {path}: {str(error) or type(error).__name__}") from error

    @staticmethod
    async def _send(
        client: ApiClient,
        method: str,
        path: str,
        query: Query,
        body: object,
        content: str,
        limit: float | aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"}
        if content:
            headers["Content-Type"] = f"application/{content}+json"
        # Without _preload_content the library returns aiohttp's response instead of a model object.
        response: aiohttp.ClientResponse = await client.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=limit,
        )
        return response


def _workloads(kind: OwnerKind, namespace: str) -> str:
    return f"/apis/{kind.api_version}/{f'namespaces/{namespace}/' if namespace else ''}{kind.plural}"


def _core(namespace: str, resource: str) -> str:
    return f"/api/v1/namespaces/{namespace}/{resource}"


def _warning_text(header: str) -> str:
    """Return the text of a header ``Warning: 299 - "text"`` (RFC 7234, section 5.5)."""
    text = header.partition(' - "')[2].removesuffix('"')
    return text.replace('\\"', '"').replace("\\\\", "\\")


def _error_message(body: bytes) -> str:
    try:
        return decode(body, Status).message
    except msgspec.DecodeError:  # a proxy's answer, not the API server's
        return body[:200].decode(errors="replace")
