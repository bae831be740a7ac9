"""Talk to the API server. The client library gives credentials, TLS and connections; JSON is typed here by msgspec.

The generated model classes are not used: they decode every field of an object, which costs more than all the rest.
"""

import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Generic, Self, TypeVar

import aiohttp
import msgspec
from kubernetes_asyncio.client import ApiClient

from webhook.api.namespace import ADMISSION_LABEL, Namespace
from webhook.api.objects import API_GROUP, API_VERSION, GATED_LABEL, LedgerGate, Metadata, Pod, Secret, Struct
from webhook.api.owners import Owner, OwnerKind
from webhook.core.patches import Patch
from webhook.kube.errors import ClusterError, NotFound, Unavailable, cluster_error
from webhook.kube.reflector import Change, ChangeKind, Listing, Object, Unreadable
from webhook.telemetry import log_event

T = TypeVar("T", bound=Object)
Q = Mapping[str, str]

WAKING_ANNOTATION = "ledgergate.dev/released-at"

REQUEST_TIMEOUT = 10.0
"""Seconds for anything but a watch."""

WATCH_SECONDS = (30, 45)
"""How long one watch lasts. Short, so that a connection that died without a word is noticed within a minute."""

SILENCE = 15
"""Seconds beyond its time after which a watch that has not ended counts as dead."""


class _Code(Struct, frozen=True):
    message: str = ""
    code: int = 0


class _Listed(Struct, frozen=True):
    metadata: Metadata
    items: list[msgspec.Raw]


class _Event(Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Bookmark(Struct, frozen=True):
    metadata: Metadata = Metadata()


@dataclass(frozen=True, slots=True)
class Collection(Generic[T]):
    """A path of the API with objects of one type, as a feed; see :class:`webhook.kube.reflector.Feed`."""

    cluster: "KubeClient"
    path: str
    kind: type[T]
    query: tuple[tuple[str, str], ...] = ()

    async def list_objects(self) -> Listing[T]:
        """List the collection."""
        body = await self.cluster.request("GET", self.path, query=dict(self.query))
        listed = msgspec.json.decode(body, type=_Listed)
        return [_read(item, self.kind) for item in listed.items], listed.metadata.resource_version

    async def readable(self) -> list[T]:
        """List what of the collection can be decoded."""
        found, _ = await self.list_objects()
        return [item for item in found if not isinstance(item, Unreadable)]

    async def changes(self, resource_version: str) -> AsyncIterator[Change[T]]:
        """Watch the collection from a resource version on."""
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 - spreads reconnects, no secret
        query = {
            **dict(self.query),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        if resource_version:
            query["resourceVersion"] = resource_version
        async for line in self.cluster.stream(self.path, query, seconds + SILENCE):
            yield _change(line, self.kind)


@dataclass(frozen=True, slots=True)
class SingleSecret:
    """One Secret as a feed, with no right but ``get`` and ``watch`` on it."""

    cluster: "KubeClient"
    namespace: str
    name: str

    async def list_objects(self) -> tuple[list[Secret], str]:
        """Get the Secret; none where it does not exist."""
        try:
            body = await self.cluster.request("GET", f"{_core(self.namespace, 'secrets')}/{self.name}")
        except NotFound:
            return [], ""
        found = msgspec.json.decode(body, type=Secret)
        return [found], found.metadata.resource_version

    def changes(self, resource_version: str) -> AsyncIterator[Change[Secret]]:
        """Watch it: RBAC takes a field selector on the name for the name (Kubernetes docs, RBAC, resourceNames)."""
        query = (("fieldSelector", f"metadata.name={self.name}"),)
        return Collection(self.cluster, _core(self.namespace, "secrets"), Secret, query).changes(resource_version)


class KubeClient:
    """A connection to one API server.

    Args:
        client: an authenticated client, closed with this object.
    """

    def __init__(self, client: ApiClient) -> None:
        self.client = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    def ledger_gates(self) -> Collection[LedgerGate]:
        """Every LedgerGate."""
        return Collection(self, f"/apis/{API_GROUP}/{API_VERSION}/ledgergates", LedgerGate)

    def unbound_pods(self) -> Collection[Pod]:
        """Every pod that no node has yet: among them all that are held, whatever became of their labels."""
        return Collection(self, "/api/v1/pods", Pod, (("fieldSelector", "spec.nodeName="),))

    def gated_pods(self) -> Collection[Pod]:
        """Every pod that we have gated, by scheduling or by readiness, wherever it is by now."""
        return Collection(self, "/api/v1/pods", Pod, (("labelSelector", f"{GATED_LABEL}=true"),))

    def opted_in(self) -> Collection[Namespace]:
        """Every namespace with our label, whatever its value."""
        return Collection(self, "/api/v1/namespaces", Namespace, (("labelSelector", ADMISSION_LABEL),))

    async def namespace(self, name: str) -> Namespace:
        """One namespace, as it is now."""
        return msgspec.json.decode(await self.request("GET", f"/api/v1/namespaces/{name}"), type=Namespace)

    def secret(self, namespace: str, name: str) -> SingleSecret:
        """One Secret."""
        return SingleSecret(self, namespace, name)

    async def patch_pod(self, pod: Metadata, patch: Patch) -> None:
        """Apply a JSON patch to a pod."""
        await self.request("PATCH", f"{_core(pod.namespace, 'pods')}/{pod.name}", body=patch, content="json-patch")

    async def patch_pod_conditions(self, pod: Metadata, conditions: Sequence[Mapping[str, str]]) -> None:
        """Merge conditions into a pod's status by their type, unless it is another pod of that name by now."""
        path = f"{_core(pod.namespace, 'pods')}/{pod.name}/status"
        body = {"metadata": {"uid": pod.uid}, "status": {"conditions": list(conditions)}}
        await self.request("PATCH", path, body=body, content="strategic-merge-patch")

    async def owners(self, kind: OwnerKind, namespace: str, *, cached: bool) -> Sequence[Owner]:
        """List a namespace's owners of pods of one kind, from the API server's own cache if that will do."""
        path, query = _workloads(kind, namespace), {"resourceVersion": "0"} if cached else {}
        return msgspec.json.decode(await self.request("GET", path, query=query), type=_Owners).items

    async def owner(self, kind: OwnerKind, namespace: str, name: str) -> Owner:
        """One owner of pods."""
        return msgspec.json.decode(await self.request("GET", f"{_workloads(kind, namespace)}/{name}"), type=Owner)

    async def wake(self, kind: OwnerKind, owner: Metadata, at: datetime) -> None:
        """Annotate an owner of pods with a time, which makes its controller look at it at once."""
        annotations = {WAKING_ANNOTATION: at.isoformat().replace("+00:00", "Z")}
        body = {"metadata": {"uid": owner.uid, "annotations": annotations}}
        await self.request(
            "PATCH", f"{_workloads(kind, owner.namespace)}/{owner.name}", body=body, content="merge-patch"
        )

    async def patch_gate_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge a LedgerGate's status."""
        path = f"/apis/{API_GROUP}/{API_VERSION}/namespaces/{namespace}/ledgergates/{name}/status"
        await self.request("PATCH", path, body={"status": dict(status)}, content="merge-patch")

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Create an Event."""
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        await self.request("POST", path, body=dict(body))

    async def request(
        self, method: str, path: str, *, query: Q | None = None, body: object = None, content: str = ""
    ) -> bytes:
        """Ask the API server and return the answer's body.

        Args:
            content: ``json-patch``, ``merge-patch`` or ``strategic-merge-patch`` for a PATCH.

        Raises:
            ClusterError: it did not do it, see :mod:`webhook.kube.errors`.
        """
        try:
            response = await self._send(method, path, query or {}, body, content, REQUEST_TIMEOUT)
            async with response:
                answer: bytes = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{method} {path}: {str(error) or type(error).__name__}") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise cluster_error(response.status, _message(answer))
        return answer

    async def stream(self, path: str, query: Q, silence: float) -> AsyncIterator[bytes]:
        """Yield the lines of a long answer.

        Args:
            silence: seconds without a byte after which the connection counts as dead.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=REQUEST_TIMEOUT, sock_read=silence)
        try:
            async with await self._send("GET", path, query, None, "", timeout) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise cluster_error(response.status, _message(await response.read()))
                async for line in response.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(f"watch {path}: {str(error) or type(error).__name__}") from error

    async def _send(
        self, method: str, path: str, query: Q, body: object, content: str, limit: float | aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"}
        if content:
            headers["Content-Type"] = f"application/{content}+json"
        response: aiohttp.ClientResponse = await self.client.call_api(
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


class _Owners(Struct, frozen=True):
    items: list[Owner]


def _workloads(kind: OwnerKind, namespace: str) -> str:
    return f"/apis/{kind.api_version}/namespaces/{namespace}/{kind.plural}"


def _core(namespace: str, resource: str) -> str:
    return f"/api/v1/namespaces/{namespace}/{resource}"


def _read(raw: msgspec.Raw, kind: type[T]) -> T | Unreadable:
    """Decode one object; one that another version of ours wrote must not hide all the others."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        metadata = msgspec.json.decode(raw, type=_Bookmark).metadata
        log_event(
            "object.unreadable", level=logging.ERROR, kind=kind.__name__, key="/".join(metadata.key), error=str(error)
        )
        return Unreadable(metadata, str(error))


def _change(line: bytes, kind: type[T]) -> Change[T]:
    try:
        found = msgspec.json.decode(line, type=_Event)
        if found.type == "ERROR":
            status = msgspec.json.decode(found.object, type=_Code)
            raise cluster_error(status.code, status.message)
        version = msgspec.json.decode(found.object, type=_Bookmark).metadata.resource_version
        changed = None if found.type == ChangeKind.BOOKMARK else _read(found.object, kind)
        return Change(ChangeKind(found.type), version, changed)
    except (msgspec.DecodeError, ValueError) as error:
        raise ClusterError(f"a watch event cannot be read: {error}") from error


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Code).message
    except msgspec.DecodeError:
        return body[:200].decode(errors="replace")
