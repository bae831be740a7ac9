"""A local copy of a collection of Kubernetes objects, kept up by list and watch.

The copy survives disconnects, an API server that restarts and a resource version that is too old (410 Gone): whatever
happens, it is listed again and the difference is told, so nobody who follows it misses a change.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeAlias, TypeVar

from webhook.api.objects import Metadata
from webhook.kube.errors import ClusterError, Expired, Unavailable

Key = tuple[str, str]
"""Namespace and name."""


class Object(Protocol):
    """Anything with Kubernetes metadata."""

    @property
    def metadata(self) -> Metadata:
        """The object's metadata."""


T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that is there, but cannot be decoded: another version of ours may have written it.

    Args:
        error: what is wrong with it.
    """

    metadata: Metadata
    error: str


SHORTEST_WATCH = 1.0
"""Seconds. A watch that ends sooner without a word did not work, whatever the answer's status said."""


class ChangeKind(StrEnum):
    """The type of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One watch event; of a bookmark only the resource version counts."""

    kind: ChangeKind
    resource_version: str
    object: T | Unreadable | None = None


Listing: TypeAlias = tuple[Sequence[T | Unreadable], str]
"""What is there, and the resource version to watch from."""


class Feed(Protocol[T]):
    """A collection that can be listed and watched. Both raise ClusterError."""

    async def list_objects(self) -> Listing[T]:
        """List the collection."""

    def changes(self, resource_version: str) -> AsyncIterator[Change[T]]:
        """Yield what changes since; ends when the server ends the watch."""


def _ignore(_: object) -> None: ...


class Reflector(Generic[T]):
    """Keep a copy of one feed.

    Args:
        feed: what to follow.
        on_change: called with the old and the new object (None where there is none) after the copy has it.
        on_failure: called with each failure to list or watch, and with None once it works again.
        on_unreadable: called with the key of an object that has become unreadable, or readable again, or has gone. Its
            last readable state stays in the copy.
        retry: first and longest pause in seconds after a failure; the pause doubles, with full jitter.
    """

    def __init__(
        self,
        feed: Feed[T],
        on_change: Callable[[T | None, T | None], None],
        *,
        on_failure: Callable[[ClusterError | None], None] = _ignore,
        on_unreadable: Callable[[Key], None] = _ignore,
        retry: tuple[float, float] = (0.05, 2.0),
    ) -> None:
        self._feed = feed
        self._on_change = on_change
        self._on_failure = on_failure
        self._on_unreadable = on_unreadable
        self._retry = retry
        self._pause = retry[0]
        self._objects: dict[Key, T] = {}
        self._unreadable: dict[Key, Unreadable] = {}
        self._synced = asyncio.Event()

    @property
    def objects(self) -> Mapping[Key, T]:
        """The copy."""
        return self._objects

    @property
    def unreadable(self) -> Mapping[Key, Unreadable]:
        """The objects that are there, but cannot be decoded as they stand."""
        return self._unreadable

    @property
    def synced(self) -> bool:
        """Whether the collection was listed at least once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait until the collection was listed."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the feed until cancelled."""
        while True:
            try:
                version = await self._list()
                self._on_failure(None)
                while True:
                    version = await self._watch(version)
            except Expired:
                pass  # nothing is wrong but our version: list again
            except ClusterError as error:
                self._on_failure(error)
            # Jitter keeps replicas from asking a restarted API server all at once.
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            self._pause = min(self._pause * 2, self._retry[1])

    async def _list(self) -> str:
        found, version = await self._feed.list_objects()
        fresh = {item.metadata.key: item for item in found}
        for key in [key for key in (*self._objects, *self._unreadable) if key not in fresh]:
            self._put(key, None)
        for key, item in fresh.items():
            self._put(key, item)
        self._synced.set()
        return version

    async def _watch(self, version: str) -> str:
        """Follow one watch to its end. Only one that works shortens the pause again: a list alone proves nothing."""
        clock = asyncio.get_running_loop().time
        proven = clock() + SHORTEST_WATCH
        async for change in self._feed.changes(version):
            proven = clock()
            self._pause = self._retry[0]
            version = change.resource_version
            if change.object is not None and change.kind is not ChangeKind.BOOKMARK:
                gone = change.kind is ChangeKind.DELETED
                self._put(change.object.metadata.key, None if gone else change.object)
        if clock() < proven:
            raise Unavailable("the watch ended at once, without a word")
        self._pause = self._retry[0]
        return version

    def _put(self, key: Key, new: T | Unreadable | None) -> None:
        if isinstance(new, Unreadable):
            before = self._unreadable.get(key)
            self._unreadable[key] = new
            if before is None or not _same(before, new):
                self._on_unreadable(key)
            return
        mended = self._unreadable.pop(key, None) is not None
        self._put_readable(key, new)
        if mended:
            self._on_unreadable(key)

    def _put_readable(self, key: Key, new: T | None) -> None:
        old = self._objects.get(key)
        if old is not None and new is not None and _same(old, new):
            return
        if new is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = new
        if old is not None or new is not None:
            self._on_change(old, new)


def _same(old: Object, new: Object) -> bool:
    before, after = old.metadata, new.metadata
    return (before.uid, before.resource_version) == (after.uid, after.resource_version)
