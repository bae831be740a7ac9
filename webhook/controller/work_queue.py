"""Keys to work on: each at most once at a time, and not more often than its interval allows."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Pause:
    """The pause after a key was worked on.

    Args:
        since: when the work began.
        again: the key was added meanwhile.
    """

    since: float
    timer: asyncio.TimerHandle
    again: bool = False


class WorkQueue(Generic[K]):
    """A set of keys that several workers take from.

    A key that was not worked on lately is taken at once. One that is added meanwhile, however often, is worked on once
    more when its interval is over, so that the work sees the newest state.

    Args:
        work: works on one key; it handles its own errors.
        interval: seconds from the beginning of the work on a key to the next time.
        soon: the same for a key that is added with ``soon``.
        workers: how many keys are worked on at a time.
    """

    def __init__(self, work: Callable[[K], Awaitable[None]], *, interval: float, soon: float, workers: int) -> None:
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
        """Have a key worked on: now, or when its interval is over."""
        if key in self._running:
            self._running[key] = soon or bool(self._running[key])
        elif key in self._pauses:
            self._pauses[key].again = True
            if soon:
                self._pause(key, self._pauses[key].since, self._soon, again=True)
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
            began = clock()
            self._running[key] = None
            try:
                await self._work(key)
            finally:
                again = self._running.pop(key)
            self._pause(key, began, self._soon if again else self._interval, again=again is not None)

    def _pause(self, key: K, since: float, seconds: float, *, again: bool) -> None:
        loop, before = asyncio.get_running_loop(), self._pauses.get(key)
        if before is not None:
            before.timer.cancel()
        timer = loop.call_later(max(0.0, since + seconds - loop.time()), self._pause_over, key)
        self._pauses[key] = _Pause(since, timer, again)

    def _pause_over(self, key: K) -> None:
        if self._pauses.pop(key).again:
            self.add(key)
