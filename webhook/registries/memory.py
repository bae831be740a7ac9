"""What images have said, so that each is read once, however many pods have it.

What a digest names never changes, so labels are kept by digest; a tag is looked up again after a while.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from webhook.registries.client import RegistryClient
from webhook.registries.credentials import NO_CREDENTIALS, Keyring
from webhook.registries.reference import ImageReference, ImageReferenceError
from webhook.registries.result import ImageLabels, Unresolved

Key = tuple[str, str]
"""Scope and reference."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a reference, and until when that is good."""

    found: ImageLabels | Unresolved
    until: float


class ImageMemory:
    """Remembers what images say. One reading serves all who ask for the same image meanwhile.

    Scopes know nothing of each other: a pull secret of one namespace must not show another what a private image says.

    Args:
        client: reads what is not known.
        clock: seconds that never go back.
        refresh: seconds after which a tag is looked up again.
        retry: seconds after which an image that could not be read is tried again, unless its registry asks for more.
        refused: the same where the registry has answered that it cannot be read, and only a person can help.
        capacity: images that are remembered, the least used ones go first.
    """

    def __init__(
        self,
        client: RegistryClient,
        clock: Callable[[], float],
        *,
        refresh: float = 60.0,
        retry: float = 5.0,
        refused: float = 60.0,
        capacity: int = 2000,
    ) -> None:
        self._client = client
        self._clock = clock
        self._refresh = refresh
        self._retry = retry
        self._refused = refused
        self._capacity = capacity
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._readings: dict[Key, asyncio.Task[ImageLabels | Unresolved]] = {}

    def recall(self, scope: str, reference: str) -> ImageLabels | None:
        """Return what an image is known to say, however long ago a tag was looked up; None where it was never read.

        Args:
            scope: whose image it is: a namespace with the logins that it has.
            reference: the image, as it stands in a pod.
        """
        known = self._known.get((scope, _normal(reference)))
        return known.found if known and isinstance(known.found, ImageLabels) else None

    def learn(self, scope: str, images: Iterable[ImageLabels]) -> None:
        """Remember images that were read before, by another process perhaps."""
        for image in images:
            self._remember((scope, image.reference), image)

    async def find(self, scope: str, reference: str, keyring: Keyring = NO_CREDENTIALS) -> ImageLabels | Unresolved:
        """Return what an image says on each of its platforms, read now unless it is known.

        Args:
            scope: whose image it is: a namespace with the logins that it has.
            reference: the image, as it stands in a pod.
            keyring: the credentials that the scope may use.
        """
        key = (scope, _normal(reference))
        known = self._known.get(key)
        if known is not None and self._clock() < known.until:
            self._known.move_to_end(key)
            return known.found
        reading = self._readings.get(key)
        if reading is None:
            reading = asyncio.create_task(self._read(key, keyring))
            self._readings[key] = reading
            reading.add_done_callback(lambda _: self._readings.pop(key, None))
        # A caller that is cancelled must not cancel the reading, for which others may wait.
        return await asyncio.shield(reading)

    async def close(self) -> None:
        """End what is being read."""
        readings = list(self._readings.values())
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)

    async def _read(self, key: Key, keyring: Keyring) -> ImageLabels | Unresolved:
        scope, reference = key
        before = self.recall(scope, reference)
        if before is not None:
            digest = await self._client.read_digest(reference, keyring)
            if isinstance(digest, Unresolved):
                return self._remember(key, digest, before)
            named = self.recall(scope, f"{before.reference.partition('@')[0]}@{digest}")
            if named is not None:
                return self._remember(key, named)
            before = None  # the tag leads to another image, so what the former one said does not count
        found = await self._client.read(reference, keyring)
        if isinstance(found, ImageLabels):
            self._remember((scope, found.reference), found)
        return self._remember(key, found, before)

    def _remember(
        self, key: Key, found: ImageLabels | Unresolved, before: ImageLabels | None = None
    ) -> ImageLabels | Unresolved:
        """Keep a result; a failure does not replace what the image said before, and is tried again sooner."""
        if isinstance(found, ImageLabels):
            until = float("inf") if "@" in key[1] else self._clock() + self._refresh
            kept = _Known(found, until)
        else:
            pause = max(self._retry, found.retry_after or 0.0) if found.transient else self._refused
            kept = _Known(before or found, self._clock() + pause)
        self._known[key] = kept
        self._known.move_to_end(key)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return kept.found


# Every pod of a rollout asks for the same few images.
@lru_cache(maxsize=1024)
def _normal(reference: str) -> str:
    """Return the same text for every spelling of a reference; with a digest, the tag does not count."""
    try:
        parsed = ImageReference.parse(reference)
    except ImageReferenceError:
        return reference[:600]
    return f"{parsed.name}@{parsed.digest}" if parsed.digest else str(parsed)
