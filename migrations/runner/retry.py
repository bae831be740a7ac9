"""Retries of a migration that failed for a transient reason, such as a lock that another session holds."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from migrations.core.backoff import Backoff
from migrations.runner.section import MigrationFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from migrations.runner.reporter import Reporter
    from migrations.runner.run import MigrationLimits
    from migrations.runner.section import Section

_TRANSIENT = {
    "55P03": "did not get a lock in time",
    "40P01": "ran into a deadlock",
    "40001": "could not be serialised with another transaction",
}
"""SQLSTATEs of failures that may pass without a change to the migration. Source: PostgreSQL, Appendix A."""
_FIRST_PAUSE = 0.5  # seconds
_LONGEST_PAUSE = 10.0  # seconds; the application works undisturbed meanwhile


def is_transient(sqlstate: str) -> bool:
    """Return whether a failure may pass without a change to the migration."""
    return sqlstate in _TRANSIENT


class RetryPolicy:
    """The decision whether a failed migration is retried, and after which pause."""

    def __init__(self, limits: MigrationLimits, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        """Start to count the time.

        Args:
            limits: The limits of the migration; only `retry_for` is used.
            clock: Returns seconds of a monotonic clock.
            jitter: Returns a random number from 0 to 1.
        """
        self._clock = clock
        self._deadline = clock() + limits.retry_for
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter)

    def next_attempt(self, sqlstate: str) -> tuple[str, float] | None:
        """Return the reason of a failure and the pause before the next attempt; None to give up."""
        reason = _TRANSIENT.get(sqlstate)
        pause = self._backoff.next()
        return (reason, pause) if reason and self._clock() + pause < self._deadline else None


async def retry_attempts(
    section: Section, limits: MigrationLimits, attempt: Callable[[], Awaitable[None]], reporter: Reporter
) -> None:
    """Call `attempt` until it succeeds, fails for a reason that is not transient, or `retry_for` has passed.

    Raises:
        MigrationFailed: From the last attempt; the message has the number of attempts.
    """
    policy = RetryPolicy(limits, asyncio.get_running_loop().time, random.random)
    attempts = 0
    while True:
        attempts += 1
        try:
            return await attempt()
        except MigrationFailed as error:
            decision = policy.next_attempt(error.sqlstate)
            if decision is None:
                if attempts == 1:
                    raise
                message = f"{error} (tried {attempts} times in {limits.retry_for:g} s)"
                raise MigrationFailed(message, error.sqlstate) from error
            reason, pause = decision
            revision = section.migration.revision
            reporter.info(
                "retrying",
                f"{revision} {reason} and is rolled back; next attempt in {pause:.1f} s",
                revision=revision,
                attempt=attempts,
                pause=round(pause, 1),
                reason=str(error),
            )
        await asyncio.sleep(pause)
