"""Wait for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, probe: Callable[[], T], *, timeout: float = 30.0, pause: float = 0.05) -> T:
    """Return the first true answer of a probe.

    Args:
        what: what is waited for, for the message.
        timeout: seconds; generous, since it only ends what hangs.
        pause: seconds between two probes.

    Raises:
        AssertionError: the time is up; the message has the last answer.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {timeout:g} s; at last {answer!r}")
        time.sleep(pause)
