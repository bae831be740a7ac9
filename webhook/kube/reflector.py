"""A local copy of a collection of Kubernetes objects, kept up by list and watch.

The copy survives disconnects, restarts of the API server and a resource version that is too old (410 Gone): the
collection is then listed again and the difference is reported, so that no change is missed.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeAlias, TypeVar

from migrations.core.backoff import Backoff
from webhook.api.objects import Metadata
from webhook.kube.errors import ClusterError, Expired, Unavailable
from webhook.telemetry import isolated, log_event

Key = tuple[str, str]
"""Namespace and name."""


class Object(Protocol):
    """An object with Kubernetes metadata."""

    @property
    def metadata(self) -> Metadata:
        """The object's metadata."""


T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that exists but cannot be decoded: another version of ledgergate may have written it.

    Args:
        error: why it cannot be decoded.
    """

    metadata: Metadata
    error: str


SHORTEST_WATCH = 1.0
"""Seconds. A watch that ends sooner, without an event, counts as failed whatever its status was: a proxy may cut it."""


SHORT_FAILURE = 30.0
"""Seconds for which a list or watch may fail before it counts as a problem: an API server restarts in less."""


class ChangeKind(StrEnum):
    """The type of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One watch event; a bookmark has a resource version only."""

    kind: ChangeKind
    resource_version: str
    object: T | Unreadable | None = None


Listing: TypeAlias = tuple[Sequence[T | Unreadable], str]
"""The objects of a collection, and the resource version to watch from."""


class Feed(Protocol[T]):
    """A collection that can be listed and watched. Both methods raise ClusterError."""

    async def list_objects(self) -> Listing[T]:
        """List the collection."""

    def watch(self, resource_version: str) -> AsyncIterator[Change[T]]:
        """Yield the changes since a resource version, until the server ends the watch."""


def _ignore(_: object) -> None: ...


class Reflector(Generic[T]):
    """A copy of one collection, kept up to date by list and watch.

    Args:
        feed: the collection.
        on_change: called with the old and the new object (None where there is none), after the copy has changed.
        on_failure: called with each failure to list or watch, and with None after each list that succeeds.
        on_unreadable: called with the key of an object that has become unreadable, or that was unreadable and has
            become readable or was deleted. The copy keeps its last readable state.
        retry: first and longest pause after a failure, in seconds.
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
        # Without jitter all replicas would ask a restarted API server at the same moment.
        self._backoff = Backoff(*retry, jitter=random.random)
        self._objects: dict[Key, T] = {}
        self._unreadable: dict[Key, Unreadable] = {}
        self._synced = asyncio.Event()
        self._failing: tuple[float, str] | None = None

    @property
    def problem(self) -> str:
        """Why the copy is not up to date; empty where it is, or lists and watches have failed for a short time only."""
        if self._failing is not None and self._clock() - self._failing[0] >= SHORT_FAILURE:
            return self._failing[1]
        return "" if self.synced else "not listed yet"

    @property
    def objects(self) -> Mapping[Key, T]:
        """The copy."""
        return self._objects

    @property
    def unreadable(self) -> Mapping[Key, Unreadable]:
        """The objects that exist but cannot be decoded."""
        return self._unreadable

    @property
    def synced(self) -> bool:
        """Whether the collection has been listed at least once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait until the collection has been listed."""
        await self._synced.wait()

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                version = await self._list()
                self._on_failure(None)
                while True:
                    version = await self._watch(version)
            except Expired:
                pass  # the resource version is too old, which is no failure: list again
            except ClusterError as error:
                self._note_failure(str(error))
                self._on_failure(error)
            except Exception as error:  # noqa: BLE001 - one collection of many; the others go on
                log_event("watch.failed", level=logging.ERROR, trace=True, error=f"{type(error).__name__}: {error}")
                self._note_failure(f"the answer cannot be read ({type(error).__name__})")
                with isolated("watch.failed"):
                    self._on_failure(Unavailable(f"the answer cannot be read ({type(error).__name__})"))
            await asyncio.sleep(self._backoff.next())

    async def _list(self) -> str:
        found, version = await self._feed.list_objects()
        listed = {item.metadata.key: item for item in found}
        # What is not listed was deleted while no watch ran.
        for key in [key for key in (*self._objects, *self._unreadable) if key not in listed]:
            self._put(key, None)
        for key, item in listed.items():
            self._put(key, item)
        self._synced.set()
        return version

    async def _watch(self, version: str) -> str:
        """Follow one watch to its end and return the resource version to go on from."""
        clock = self._clock
        # Only a watch that works resets the pause. A list alone proves nothing: where the right to watch is missing, or
        # a proxy cuts every watch, each list would succeed and the API server would be asked without pause.
        works_at = clock() + SHORTEST_WATCH
        async for change in self._feed.watch(version):
            works_at = clock()
            self._note_success()
            version = change.resource_version
            if change.object is not None and change.kind is not ChangeKind.BOOKMARK:
                deleted = change.kind is ChangeKind.DELETED
                self._put(change.object.metadata.key, None if deleted else change.object)
        if clock() < works_at:
            raise Unavailable("the watch ended at once, without an event")
        self._note_success()
        return version

    def _note_failure(self, problem: str) -> None:
        self._failing = (self._failing[0] if self._failing else self._clock()), problem

    def _note_success(self) -> None:
        self._backoff.reset()
        self._failing = None

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()

    def _put(self, key: Key, new: T | Unreadable | None) -> None:
        if isinstance(new, Unreadable):
            before = self._unreadable.get(key)
            self._unreadable[key] = new
            if before is None or not _is_same(before, new):
                with isolated("object.failed", key="/".join(key)):
                    self._on_unreadable(key)
            return
        was_unreadable = self._unreadable.pop(key, None) is not None
        self._put_readable(key, new)
        if was_unreadable:
            with isolated("object.failed", key="/".join(key)):
                self._on_unreadable(key)

    def _put_readable(self, key: Key, new: T | None) -> None:
        old = self._objects.get(key)
        if old is not None and new is not None and _is_same(old, new):
            return
        if new is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = new
        if old is not None or new is not None:
            with isolated("object.failed", key="/".join(key)):
                self._on_change(old, new)


def _is_same(old: Object, new: Object) -> bool:
    # The uid tells an object from a later one of the same name, also where a restored etcd repeats resource versions.
    before, after = old.metadata, new.metadata
    return (before.uid, before.resource_version) == (after.uid, after.resource_version)
