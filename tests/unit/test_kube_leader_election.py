"""A replica that no longer leads ends its work, or its process."""

import asyncio
from contextlib import suppress

import pytest

from webhook.kube.leader_election import _cancel


async def test_work_that_does_not_end_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation that the work loses is an error, and not a replica that waits for ever and never leads again."""
    monkeypatch.setattr("webhook.kube.leader_election.END_SECONDS", 0.05)
    end = asyncio.Event()

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await end.wait()
        await end.wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="does not end"):
        await _cancel(task, None)
    end.set()
    await task


async def test_work_that_ends_with_an_error_has_ended() -> None:
    """What fails while it is cancelled is no error of the election, and asyncio logs nothing about it."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("as it was cancelled")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await _cancel(task, None)
    assert task.done()
