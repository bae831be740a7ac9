"""How long a migration may wait for locks, run, and be retried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrations.core.migration import SectionBody


@dataclass(frozen=True, slots=True)
class MigrationLimits:
    """Limits of a migration, in seconds; 0 is no limit. They do not concern the wait for our own advisory lock.

    Attributes:
        lock_timeout: PostgreSQL's `lock_timeout`, for each lock that a statement waits for. While a statement waits for
            a table, every later query of that table queues behind it, so this bounds how long a migration blocks the
            application.
        statement_timeout: PostgreSQL's `statement_timeout`. No limit by default: a long migration is not an error.
        retry_for: For all attempts at one migration that fails for a transient reason; 0 is a single attempt.
    """

    lock_timeout: float = 5.0
    statement_timeout: float = 0.0
    retry_for: float = 300.0

    def for_section(self, body: SectionBody) -> MigrationLimits:
        """Return the limits of one section, whose own options take precedence."""
        return replace(
            self,
            lock_timeout=self.lock_timeout if body.lock_timeout is None else body.lock_timeout,
            statement_timeout=self.statement_timeout if body.statement_timeout is None else body.statement_timeout,
        )

    @property
    def parameters(self) -> dict[str, str]:
        """The run-time parameters that set these limits."""
        return {
            "lock_timeout": f"{self.lock_timeout * 1000:.0f}ms",
            "statement_timeout": f"{self.statement_timeout * 1000:.0f}ms",
        }
