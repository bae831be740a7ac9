"""The loop that keeps certificates fresh ends when it is cancelled, whatever happens at that moment."""

import asyncio
from datetime import timedelta

import pytest

from certs.refresh import refresh_forever


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_is_not_lost_where_the_source_changes_at_that_moment(turns: int) -> None:
    """Cancelled some turns of the event loop after a change, the loop ends, and its leader's term with it."""
    changed, refreshed = asyncio.Event(), asyncio.Event()

    async def refresh() -> bool:
        refreshed.set()
        return True

    task = asyncio.create_task(
        refresh_forever(refresh, period=timedelta(hours=1), on_failure=lambda _: None, changed=changed)
    )
    await refreshed.wait()
    for _ in range(10):  # by then it waits
        await asyncio.sleep(0)
    changed.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    _, running = await asyncio.wait([task], timeout=5)
    task.cancel()
    assert not running, "the cancellation was lost"
