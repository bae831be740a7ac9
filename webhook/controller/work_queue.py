"""A queue of keys that wait to be reconciled, in which a key stands once however often it is enqueued."""

import asyncio
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WorkQueue(Generic[Item]):
    """Keys that wait to be reconciled: what changes while a round runs is the next round's work.

    As client-go's workqueue does, it holds no state but the key, so that what a reconciler sees is the newest.
    """

    def __init__(self) -> None:
        self._waiting: set[Item] = set()
        self._changed = asyncio.Event()

    def enqueue(self, item: Item) -> None:
        """Add a key, unless it waits already."""
        self._waiting.add(item)
        self._changed.set()

    async def take(self) -> AbstractSet[Item]:
        """Wait until keys wait, remove all of them, and return them."""
        await self._changed.wait()
        self._changed.clear()
        taken, self._waiting = self._waiting, set()
        return taken
