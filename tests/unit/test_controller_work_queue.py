"""Keys are worked on at once, one at a time each, and no more often than is allowed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.object_feeds import until
from webhook.controller.work_queue import WorkQueue

LONG = 3600.0


class Work:
    """Notes when work on a key began; a test lets it end."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.running: set[str] = set()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, key: str) -> None:
        """Work on a key."""
        assert key not in self.running, "two workers at one key"
        self.running.add(key)
        self.began.append(key)
        await self.may_end.wait()
        self.running.discard(key)


@asynccontextmanager
async def working(work: Work, *, interval: float, soon: float, workers: int = 2) -> AsyncIterator[WorkQueue[str]]:
    queue = WorkQueue(work, interval=interval, soon=soon, workers=workers)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_is_worked_on_at_once_and_then_waits_for_its_interval() -> None:
    """However often it is added within the interval, it is worked on once more, when that is over."""
    work, clock = Work(), asyncio.get_running_loop().time
    async with working(work, interval=0.2, soon=0.2) as queue:
        began = clock()
        queue.add("a")
        await until(lambda: work.began == ["a"] and not work.running)
        for _ in range(5):
            queue.add("a")
        queue.add("b")
        await until(lambda: work.began == ["a", "b"])
        await until(lambda: work.began == ["a", "b", "a"])
        assert clock() - began >= 0.15
        await until(lambda: not queue._pauses)
        assert work.began == ["a", "b", "a"]


async def test_what_is_added_soon_does_not_wait_for_the_interval() -> None:
    """A key that is added with `soon`, in its pause or during the work on it, is worked on before its interval ends."""
    work = Work()
    async with working(work, interval=LONG, soon=0.0) as queue:
        queue.add("a")
        await until(lambda: work.began == ["a"] and not work.running)
        queue.add("a")
        queue.add("a", soon=True)
        await until(lambda: work.began == ["a", "a"])
        work.may_end.clear()
        queue.add("a", soon=True)
        await until(lambda: work.running == {"a"})
        queue.add("a", soon=True)
        work.may_end.set()
        await until(lambda: work.began == ["a"] * 4)
        queue.add("a")
        queue.add("b")
        await until(lambda: work.began[-1] == "b")
        assert work.began.count("a") == 4


async def test_no_key_is_worked_on_by_two_workers() -> None:
    """A key that is added again while it is worked on waits, and other keys go on, as many as there are workers."""
    work = Work()
    work.may_end.clear()
    async with working(work, interval=0.0, soon=0.0) as queue:
        for key in "aabbcc":
            queue.add(key)
        await until(lambda: len(work.running) == 2)
        queue.add("a", soon=True)
        work.may_end.set()
        await until(lambda: sorted(work.began) == ["a", "a", "b", "c"])
