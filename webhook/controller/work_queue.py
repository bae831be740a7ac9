"""Keys to work on: each at most once at a time, and not more often than its interval and its share of the CPU allow."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

AT_A_TIME = 50
"""Items that are worked on before other tasks get a turn."""

PAUSE_FACTOR = 4
"""A key is worked on again after this many times the CPU time that it took: it gets a fifth of the CPU at most."""


@dataclass(slots=True)
class _Pause:
    """The pause after a key was worked on.

    Args:
        soon: when the key may be worked on again at the earliest, by the loop's clock.
        again: the key was added meanwhile.
    """

    soon: float
    timer: asyncio.TimerHandle
    again: bool = False


class WorkQueue(Generic[K]):
    """A set of keys that several workers take from.

    A key that was not worked on lately is taken at once. One that is added meanwhile, however often, is worked on once
    more when its interval is over, so that the work sees the newest state.

    Args:
        work: works on one key; it handles its own errors. What it returns, if anything, is the least pause, in seconds,
            until the key is worked on again.
        interval: seconds from the beginning of the work on a key to the next time.
        soon: the same for a key that is added with ``soon``.
        workers: how many keys are worked on at a time.
    """

    def __init__(
        self, work: Callable[[K], Awaitable[float | None]], *, interval: float, soon: float, workers: int
    ) -> None:
        self._work = work
        self._interval = interval
        self._soon = soon
        self._workers = workers
        self._queue: asyncio.Queue[K] = asyncio.Queue()
        self._queued: set[K] = set()
        self._running: dict[K, bool | None] = {}
        """By key: None, or whether it was added ``soon`` meanwhile."""
        self._pauses: dict[K, _Pause] = {}

    def add(self, key: K, *, soon: bool = False) -> None:
        """Add a key, to be worked on now or when its interval is over."""
        if key in self._running:
            self._running[key] = soon or bool(self._running[key])
        elif key in self._pauses:
            pause = self._pauses[key]
            pause.again = True
            if soon:
                pause.timer.cancel()
                pause.timer = asyncio.get_running_loop().call_at(pause.soon, self._pause_over, key)
        elif key not in self._queued:
            self._queued.add(key)
            self._queue.put_nowait(key)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._take())
        finally:
            for pause in self._pauses.values():
                pause.timer.cancel()

    async def _take(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            key = await self._queue.get()
            self._queued.discard(key)
            began, least = clock(), None
            self._running[key] = None
            try:
                least = await self._work(key)
            finally:
                again = self._running.pop(key)
            earliest = clock() + (least or 0.0)
            soon = max(began + self._soon, earliest)
            over = soon if again else max(began + self._interval, earliest)
            timer = asyncio.get_running_loop().call_at(over, self._pause_over, key)
            self._pauses[key] = _Pause(soon, timer, again is not None)

    def _pause_over(self, key: K) -> None:
        if self._pauses.pop(key).again:
            self.add(key)


async def work_in_parts(items: Sequence[T], work: Callable[[T], None]) -> float:
    """Work on each item, with turns for others between them; return the least pause until this is done again.

    Returns:
        Seconds, for a :class:`WorkQueue`.
    """
    spent = 0.0
    for start in range(0, len(items), AT_A_TIME):
        began = time.thread_time()
        for item in items[start : start + AT_A_TIME]:
            work(item)
        spent += time.thread_time() - began
        await asyncio.sleep(0)
    return spent * PAUSE_FACTOR
