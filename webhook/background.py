"""Background work of a part of the process, which ends with the part."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start(group: asyncio.TaskGroup, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
    """Start work in a part's group; drop it where the part is ending, as with the Lease it works under.

    A timer, or another part that ends a moment later, may still ask for it then, which is no error.

    Args:
        group: the part's; it has been entered.
        work: not awaited anywhere else.

    Returns:
        The task; None where the work was dropped.
    """
    try:
        return group.create_task(work)
    except RuntimeError:  # it is shutting down, or finished
        work.close()
        return None
