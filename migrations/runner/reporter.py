"""What a run reports while it works."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.core.migration import Migration
    from migrations.postgres.advisory_lock import LockHolder
    from migrations.postgres.session import Session

_MAX_NOTICES = 20  # of one migration
_MAX_LENGTH = 500  # characters of one notice


class Reporter(Protocol):
    """The receiver of a run's progress: the command line writes it as text, JSON or a progress bar."""

    def waiting(self, holder: LockHolder | None, seconds: float) -> None:
        """Report that another session holds the lock.

        Args:
            holder: That session; None where the lock was free again when the holder was looked up.
            seconds: How long this run has waited so far.
        """

    def starting(self, migration: Migration, number: int, total: int) -> None:
        """Report that a migration begins: `number` of `total`, counted from 1."""

    def applied(self, migration: Migration, milliseconds: int, number: int, total: int) -> None:
        """Report that a migration is applied and recorded, and took `milliseconds`."""

    def info(self, event: str, text: str, **fields: object) -> None:
        """Report any other event: its fixed name, a sentence for people, and the same as fields."""


@contextmanager
def report_notices(session: Session, revision: str, reporter: Reporter) -> Iterator[None]:
    """Report notices and warnings of the server while the block runs a migration."""
    count = 0

    def report(severity: str, text: str) -> None:
        nonlocal count
        count += 1
        if count <= _MAX_NOTICES:
            line = " ".join(text.split())
            line = line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}..."
            reporter.info("notice", f"{revision}: {severity}: {line}", revision=revision, severity=severity)

    try:
        with session.show_notices(report):
            yield
    finally:
        if count > _MAX_NOTICES:
            more = count - _MAX_NOTICES
            reporter.info("notices", f"{revision}: and {more} more notices", revision=revision, more=more)
