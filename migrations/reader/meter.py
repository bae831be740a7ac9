"""What each visit of a worker costs: which one is running now, and how much CPU time each has used.

All visits share one event loop. When a worker hangs, crashes or grows, its parent has to know which visit did it, so
the number of the running one stands in memory that the parent can read after the worker's death.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableSequence

JOB: ContextVar[int] = ContextVar("JOB")
"""The visit that the running callback works for: transports keep the context of the task that opened them."""

MARK_BYTES = 8
"""Bytes of the shared memory: the running visit's number, big-endian; 0 while none runs."""


class Meter:
    """Marks the running visit, and sums up the CPU seconds of each since the last look.

    Args:
        memory: The shared memory, of `MARK_BYTES` bytes.
    """

    def __init__(self, memory: MutableSequence[int] | Any) -> None:
        self._memory = memory
        self.spent: defaultdict[int, float] = defaultdict(float)

    def install(self) -> None:
        """Meter every callback of every event loop in this process.

        To be called in a worker only, which runs nothing but visits: it replaces a method of asyncio.
        """
        # No public hook sees the callbacks of a transport.
        run, spent, mark, clock = asyncio.Handle._run, self.spent, self.mark, time.thread_time  # noqa: SLF001

        def metered(handle: asyncio.Handle) -> None:
            job = handle._context.get(JOB, 0)  # type: ignore[attr-defined]  # noqa: SLF001
            if not job:
                run(handle)
                return
            mark(job)
            began = clock()
            try:
                run(handle)
            finally:
                spent[job] += clock() - began
                mark(0)

        asyncio.Handle._run = metered  # type: ignore[method-assign, assignment]  # noqa: SLF001

    def mark(self, job: int) -> None:
        """Write which visit runs now, 0 for none; or, before the process ends itself, which visit is the cause."""
        self._memory[:MARK_BYTES] = job.to_bytes(MARK_BYTES, "big")

    def take(self) -> dict[int, float]:
        """Return the CPU seconds of each visit since the last call."""
        taken = dict(self.spent)
        self.spent.clear()
        return taken
