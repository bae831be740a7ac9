"""What a run reports while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from migrations.core.migration import Migration
    from migrations.postgres.advisory_lock import LockHolder


class Reporter(Protocol):
    """The receiver of a run's progress: the command line writes it as text, JSON or a progress bar."""

    def waiting(self, holder: LockHolder | None, seconds: float) -> None:
        """Another session holds the lock.

        Args:
            holder: That session; None where the lock was free again when it was looked for.
            seconds: How long this run has waited so far.
        """

    def starting(self, migration: Migration, number: int, total: int) -> None:
        """A migration begins; it is `number` of `total`, counted from 1."""

    def applied(self, migration: Migration, milliseconds: int, number: int, total: int) -> None:
        """A migration is applied and recorded; it took `milliseconds`."""

    def info(self, event: str, text: str, **fields: object) -> None:
        """Any other event: its fixed name, a sentence for people, and the same as fields."""
