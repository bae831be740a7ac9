"""The pause before another attempt. Pure: the caller sleeps and brings the randomness."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff:
    """Pauses that double from the first to the longest, each between half and all of its length.

    The jitter keeps clients that failed at the same moment, such as the pods of one rollout, from trying again at the
    same moment. Half of the pause is kept, so that the load on the server is bounded even with unlucky numbers.
    """

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        """Start with the first pause.

        Args:
            first: Seconds of the first pause.
            longest: Seconds that the pause grows to.
            jitter: Returns a random number from 0 to 1, as `random.random` does.
        """
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._pause = first

    def next(self, *, at_most: float = float("inf")) -> float:
        """Return the next pause, in seconds.

        Args:
            at_most: A limit for this pause alone; the pauses after it grow as if there had been none.
        """
        pause, self._pause = self._pause, min(self._pause * 2, self._longest)
        return min(pause, at_most) * (0.5 + self._jitter() / 2)

    def reset(self) -> None:
        """Begin again with the first pause; to be called after a success."""
        self._pause = self._first
