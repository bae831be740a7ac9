"""Collections of Kubernetes objects to list and watch, decoded by msgspec.

The client library's model classes are not used: they decode every field of an object, which costs more CPU than
everything else that ledgergate does with it.
"""

import logging
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

import msgspec

from webhook.api.objects import Metadata, Struct
from webhook.kube.decoding import decode
from webhook.kube.errors import ClusterError, cluster_error
from webhook.kube.reflector import Change, ChangeKind, Listing, Object, Unreadable
from webhook.telemetry import log_event

T = TypeVar("T", bound=Object)
Query: TypeAlias = Mapping[str, str]
"""Parameters of a request's URL."""

WATCH_SECONDS = (30, 45)
"""Shortest and longest duration of one watch. It is short, so that a connection that died silently is noticed within a
minute."""

PAGE = 200
"""Objects in one answer, so that a list of ten thousand pods does not arrive as one answer of 100 MB. With 500 on a
page the controller needed 30 MB more when it started among 10,000 pods of 11 KB."""

SILENCE = 15
"""Seconds after a watch's planned end at which one that has not ended counts as dead."""


class Transport(Protocol):
    """Requests to the API server. Both methods raise ClusterError."""

    async def get(self, path: str, query: Query) -> bytes:
        """Send a GET and return the response's body."""

    def stream(self, path: str, query: Query, silence: float) -> AsyncIterator[bytes]:
        """Yield the lines of a long response."""


@dataclass(frozen=True, slots=True)
class Collection(Generic[T]):
    """The objects of one type at a path of the API: a :class:`webhook.kube.reflector.Feed`.

    Args:
        query: parameters that select some of the objects.
    """

    transport: Transport
    path: str
    kind: type[T]
    query: tuple[tuple[str, str], ...] = ()

    async def list_objects(self) -> Listing[T]:
        """List the objects, page by page, with the resource version to watch from.

        Every page shows the collection as it was at the first one. Where the API server does not keep that long enough,
        it answers 410 (Expired), and the list begins anew.
        https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
        """
        listed: list[T | Unreadable] = []
        query = {**dict(self.query), "limit": str(PAGE)}
        while True:
            page = decode(await self.transport.get(self.path, query), _ObjectList)
            listed.extend(_decode(item, self.kind) for item in page.items)
            if not page.metadata.continue_token:
                return listed, page.metadata.resource_version
            query["continue"] = page.metadata.continue_token

    async def watch(self, resource_version: str) -> AsyncIterator[Change[T]]:
        """Yield the changes since a resource version, until the API server ends the watch."""
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 - spreads the reconnects of replicas; not a secret
        query = {
            **dict(self.query),
            "watch": "true",
            # A bookmark moves the resource version on while other objects change; without it a quiet watch would
            # have to be resumed from a version that etcd has compacted (410 Gone).
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        if resource_version:
            query["resourceVersion"] = resource_version
        async for line in self.transport.stream(self.path, query, seconds + SILENCE):
            yield _decode_change(line, self.kind)


class Status(Struct, frozen=True):
    """The API server's answer to a request that failed."""

    message: str = ""
    code: int = 0


class ListMetadata(Struct, frozen=True):
    """Part of ListMeta."""

    resource_version: str = ""
    continue_token: str = msgspec.field(default="", name="continue")


class _ObjectList(Struct, frozen=True):
    metadata: ListMetadata
    items: list[msgspec.Raw]


class _WatchEvent(Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _MetadataOnly(Struct, frozen=True):
    metadata: Metadata = Metadata()


def _decode(raw: msgspec.Raw, kind: type[T]) -> T | Unreadable:
    """Decode one object. One that another version of ledgergate wrote must not hide all the others."""
    try:
        return decode(raw, kind)
    except msgspec.DecodeError as error:
        metadata = decode(raw, _MetadataOnly).metadata
        log_event(
            "object.unreadable", level=logging.ERROR, kind=kind.__name__, key="/".join(metadata.key), error=str(error)
        )
        return Unreadable(metadata, str(error))


def _decode_change(line: bytes, kind: type[T]) -> Change[T]:
    try:
        event = decode(line, _WatchEvent)
        if event.type == "ERROR":
            # The response has begun with 200, so an error, such as 410 Gone, comes as an event.
            status = decode(event.object, Status)
            raise cluster_error(status.code, status.message)
        version = decode(event.object, _MetadataOnly).metadata.resource_version
        changed = None if event.type == ChangeKind.BOOKMARK else _decode(event.object, kind)
        return Change(ChangeKind(event.type), version, changed)
    except (msgspec.DecodeError, ValueError) as error:
        raise ClusterError(f"a watch event cannot be read: {error}") from error
