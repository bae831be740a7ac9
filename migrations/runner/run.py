"""One run: what it is to do, what it tells while it goes on, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from migrations.core.plan import Refusal, UpPlan, plan_up
from migrations.runner.retry import MigrationLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.ledger import Ledger
    from migrations.core.migration import Migration
    from migrations.postgres.advisory_lock import LockHolder
    from migrations.reader.reader import LedgerSource


class Reporter(Protocol):
    """What a run tells while it goes on."""

    def waiting(self, holder: LockHolder | None, seconds: float) -> None:
        """Somebody else holds the lock; we have waited for so long."""

    def starting(self, migration: Migration, number: int, total: int) -> None:
        """A migration begins, the first of `total` being number 1."""

    def applied(self, migration: Migration, milliseconds: int, number: int, total: int) -> None:
        """A migration is applied and recorded."""

    def info(self, event: str, text: str, **fields: object) -> None:
        """Something else goes on that somebody may want to know."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is to do.

    Attributes:
        source: The native ledger.
        migrations: Every file, in order.
        applied_by: Pod or host.
        target: Canonical name of the last revision to apply; None for all.
        connect_timeout: Seconds until a server that does not answer is given up.
        lock_wait_timeout: Seconds to wait for the advisory lock while another session holds it.
        out_of_order: Whether a revision may be applied after a newer one.
        limits: Of each migration that has none of its own.
    """

    source: LedgerSource
    migrations: Sequence[Migration]
    applied_by: str
    target: str | None = None
    connect_timeout: float = 30.0
    lock_wait_timeout: float = 600.0
    out_of_order: bool = False
    limits: MigrationLimits = field(default_factory=MigrationLimits)

    @property
    def relation(self) -> str:
        """The quoted, qualified name of the ledger's table."""
        return self.source.dialect.relation(self.source.schema, self.source.table)


@dataclass(frozen=True, slots=True)
class Done:
    """The ledger holds what was wanted.

    Attributes:
        plan: The last one made, whose steps are those that this run applied.
    """

    plan: UpPlan


@dataclass(frozen=True, slots=True)
class Failed:
    """A migration failed; those before it are applied.

    Attributes:
        migration: Which.
        reason: File, line and why.
    """

    migration: Migration
    reason: str


@dataclass(frozen=True, slots=True)
class LockTimeout:
    """Somebody else held the lock for too long.

    Attributes:
        holder: Who; None when that could not be seen.
    """

    holder: LockHolder | None


@dataclass(slots=True)
class RunProgress:
    """How far a run has come, over as many connections as it needs.

    Attributes:
        applied: What it has applied, in order.
        running: What it is applying; None between two.
        total: How many it means to apply, with those that are done.
        batch: Its number in the ledger; None before it has one.
    """

    applied: list[Migration] = field(default_factory=list)
    running: Migration | None = None
    total: int = 0
    batch: int | None = None

    def tell_interrupted(self, events: Reporter) -> None:
        """Tell what is applied and what is not."""
        running = self.running
        how = "is rolled back" if running and running.up.transactional else "is recorded as failed"
        rest = f"; {running.revision} {how}" if running else ""
        text = f"interrupted: {len(self.applied)} of {self.total} applied by this run{rest}"
        events.info("interrupted", text, applied=len(self.applied), total=self.total)


Outcome = Done | Refusal | Failed | LockTimeout


def plan_run(run: RunOptions, ledger: Ledger) -> UpPlan | Refusal:
    """Decide what is to be done with this ledger."""
    return plan_up(run.migrations, ledger, run.target, out_of_order=run.out_of_order)
