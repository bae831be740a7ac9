"""When a database is visited, and for how long. Pure: the caller brings the time and the randomness.

At rest a ledger costs one short look a minute. A session lasts while pods wait, were created not long ago, or a change
was just seen; between these, a database may sleep.
"""

from collections.abc import Callable

from migrations.core.backoff import Backoff

LOOK_SECONDS = 60.0
"""Between two looks at a ledger at rest, where its gate does not say otherwise."""
POD_SECONDS = 600.0
"""How long a database is followed after a pod was created."""
FOLLOW_SECONDS = 0.02
"""Between two visits to a database that is followed. A visit ends early when its turn, Secret or ledgers change."""
CHANGE_SECONDS = 60.0
"""How long a database is followed after a change of its ledger: migrations come in series."""
FIRST_RETRY = 0.5
"""Seconds until the second attempt; it doubles up to the interval between two looks."""
URGENT_RETRY = 1.0
"""Seconds between two attempts at most while pods wait: a server that is back must be found soon."""
HOSTILE_RETRY = 300.0
"""Seconds between two attempts at most, where the database's answer cannot be read or never ends."""
JITTER = 0.1
"""The part of the interval by which a look may be early or late, so that looks at many databases spread."""


class Schedule:
    """The times of one database's visits, in seconds of the monotonic clock.

    Args:
        jitter: returns a random number from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.interval = LOOK_SECONDS
        self.urgent = False
        self.due = 0.0
        """When the next visit is to begin."""
        self._jitter = jitter
        self._not_before = 0.0
        self._follow_until = float("-inf")
        self._retry = Backoff(FIRST_RETRY, LOOK_SECONDS, jitter)
        self._hostile_retry = Backoff(FIRST_RETRY, HOSTILE_RETRY, jitter)

    def follows(self, now: float) -> bool:
        """Return whether a session should last now."""
        return self.urgent or now < self._follow_until

    def pod_created(self, at: float) -> None:
        """Follow the database for `POD_SECONDS` from a pod's creation."""
        self._follow_until = max(self._follow_until, at + POD_SECONDS)

    def changed(self, at: float) -> None:
        """Follow the database for `CHANGE_SECONDS` from a change."""
        self._follow_until = max(self._follow_until, at + CHANGE_SECONDS)

    def answered(self) -> None:
        """Note that the database could be read."""
        self._retry.reset()
        self._hostile_retry.reset()

    def ended(self, now: float) -> None:
        """Set the time of the next visit after one that has read what there was to read."""
        if self.follows(now):
            self.due = now + FOLLOW_SECONDS
        else:
            self.rest(now)

    def rest(self, now: float) -> None:
        """Set the time of the next visit: the next look at a ledger at rest."""
        self.due = now + self.interval * (1 - JITTER + 2 * JITTER * self._jitter())

    def failed(self, now: float, *, hostile: bool = False, penalty: float = 0.0) -> None:
        """Set the time of the next visit after one that has failed.

        Args:
            hostile: whether another attempt soon would only cost, as where the answer cannot be read or never ends.
            penalty: seconds that it must wait at least.
        """
        if hostile:
            pause = self._hostile_retry.next()
            self._not_before = now + pause
        else:
            pause = self._retry.next(at_most=URGENT_RETRY if self.urgent else self.interval)
        self.due = now + max(pause, penalty)

    def hurry(self, now: float) -> None:
        """Visit at once, but not before the pause after a hostile failure is over."""
        self.due = min(self.due, max(now, self._not_before))

    def edited(self, now: float) -> None:
        """Visit at once, even after a hostile failure: the gate or the Secret has changed, so what failed may work."""
        self.due = now
        self._not_before = now
