"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, probe: Callable[[], T], *, timeout: float = 120.0, pause: float = 0.05) -> T:
    """Call a probe until its result is true, and return that result.

    Args:
        what: description of the condition, for the message.
        timeout: seconds; generous, since it only ends a test that hangs.
        pause: seconds between two probes.

    Raises:
        AssertionError: the time is up; the message has the last result.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {timeout:g} s; at last {answer!r}")
        time.sleep(pause)
