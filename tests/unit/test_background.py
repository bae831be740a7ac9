"""Background work starts in its part's group, and is dropped once the part ends."""

import asyncio
from contextlib import suppress

from webhook.background import start


async def test_work_is_dropped_while_its_part_ends_and_after() -> None:
    """What a timer asks for at the end of a leader's term is no error, and no coroutine is left unawaited."""
    done, group = list[str](), asyncio.TaskGroup()

    async def work(name: str) -> None:
        done.append(name)

    async def slow_to_end() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        assert start(group, work("while it ends")) is None
        await asyncio.sleep(0)

    async def part() -> None:
        async with group:
            group.create_task(slow_to_end())
            assert start(group, work("in time")) is not None
            await asyncio.Event().wait()

    task = asyncio.create_task(part())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert start(group, work("after it")) is None
    assert done == ["in time"]
