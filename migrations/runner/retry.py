"""How long a migration may wait for locks and run, and when a wait that failed is worth another try."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrations.core.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrations.core.migration import SectionBody

_WORTH_ANOTHER_TRY = {
    "55P03": "did not get a lock in time",
    "40P01": "ran into a deadlock",
    "40001": "could not be serialised with another transaction",
}
"""SQLSTATE of failures that pass by themselves. Source: PostgreSQL, Appendix A."""
_FIRST_RETRY = 0.5
_LONGEST_RETRY = 10.0


@dataclass(frozen=True, slots=True)
class MigrationLimits:
    """Limits of a migration, all in seconds; 0 is none.

    Attributes:
        lock_timeout: For each lock that a statement waits for. Whoever wants the table meanwhile queues behind us, so
            this is how long a migration may hold the site up.
        statement_timeout: For each statement. None by default: a long migration is no failure.
        retry_for: For all tries of one migration, when what failed may pass by itself; 0 is one try.
    """

    lock_timeout: float = 5.0
    statement_timeout: float = 0.0
    retry_for: float = 300.0

    def of(self, script: SectionBody) -> MigrationLimits:
        """Give the limits of one script, whose options come first."""
        return replace(
            self,
            lock_timeout=self.lock_timeout if script.lock_timeout is None else script.lock_timeout,
            statement_timeout=self.statement_timeout if script.statement_timeout is None else script.statement_timeout,
        )

    @property
    def settings(self) -> dict[str, str]:
        """The run-time parameters that carry them."""
        return {
            "lock_timeout": f"{self.lock_timeout * 1000:.0f}ms",
            "statement_timeout": f"{self.statement_timeout * 1000:.0f}ms",
        }


class RetryPolicy:
    """Decide whether a migration that failed is tried again, and after which pause."""

    def __init__(self, limits: MigrationLimits, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        """Begin to count.

        Args:
            limits: `retry_for` is what counts.
            clock: Seconds that never go back.
            jitter: Random numbers from 0 to 1.
        """
        self._clock = clock
        self._until = clock() + limits.retry_for
        self._pauses = Backoff(_FIRST_RETRY, _LONGEST_RETRY, jitter)

    def after(self, sqlstate: str) -> tuple[str, float] | None:
        """Give what happened in words and the pause before another try; None when there is to be none."""
        reason = _WORTH_ANOTHER_TRY.get(sqlstate)
        pause = self._pauses.next()
        return (reason, pause) if reason and self._clock() + pause < self._until else None


def is_transient(sqlstate: str) -> bool:
    """Tell whether a failure may pass by itself."""
    return sqlstate in _WORTH_ANOTHER_TRY
