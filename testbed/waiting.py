"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two probes: at first, and after a long wait."""
PAUSE_SHARE = 0.1
"""The pause's share of the time waited. What takes long is noticed a tenth later, at a tenth of the probes, which cost
the API server as much as the work that they wait for."""


def until(what: str, probe: Callable[[], T], *, timeout: float = 120.0, pause: float | None = None) -> T:
    """Call a probe until its result is true, and return that result.

    Args:
        what: description of the condition, for the message.
        timeout: seconds; generous, since it only ends a test that hangs.
        pause: seconds between two probes; None for one that grows with the time waited.

    Raises:
        AssertionError: the time is up; the message has the last result.
    """
    began = time.monotonic()
    while True:
        answer = probe()
        if answer:
            return answer
        waited = time.monotonic() - began
        if waited > timeout:
            raise AssertionError(f"{what}: not after {timeout:g} s; at last {answer!r}")
        time.sleep(min(max(FIRST_PAUSE, waited * PAUSE_SHARE), LONGEST_PAUSE) if pause is None else pause)
