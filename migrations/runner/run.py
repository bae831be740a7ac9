"""The options of a run, its progress and its outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from migrations.core.plan import Refusal, UpPlan, plan_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.ledger import Ledger
    from migrations.core.migration import Migration, SectionBody
    from migrations.postgres.advisory_lock import LockHolder
    from migrations.reader.reader import LedgerSource
    from migrations.runner.reporter import Reporter


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
        if body.lock_timeout is None and body.statement_timeout is None:
            return self
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


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is to do; the parameter is called `run` wherever it is passed.

    Attributes:
        source: The ledger.
        migrations: The migrations of the directory, in order.
        applied_by: Name of the pod or host, which the ledger records.
        target: Canonical name of the last revision to apply; None for all.
        connect_timeout: Seconds to retry while the server cannot be reached.
        lock_wait_timeout: Seconds to wait while another session holds our advisory lock. Not to be confused with
            PostgreSQL's `lock_timeout`, which is in `limits`.
        out_of_order: Whether to apply a revision that is older than the newest applied one.
        expand_only: Whether to leave the contract migrations at the end of the directory.
        limits: Defaults for each migration.
    """

    source: LedgerSource
    migrations: Sequence[Migration]
    applied_by: str
    target: str | None = None
    connect_timeout: float = 30.0
    lock_wait_timeout: float = 600.0
    out_of_order: bool = False
    expand_only: bool = False
    limits: MigrationLimits = field(default_factory=MigrationLimits)

    @property
    def relation(self) -> str:
        """The quoted, qualified name of the ledger's table."""
        return self.source.dialect.relation(self.source.schema, self.source.table)


@dataclass(frozen=True, slots=True)
class Done:
    """The ledger holds every revision that was wanted.

    Attributes:
        plan: The last plan; its steps are the migrations that this run applied.
        preparation: In a preview, names of the statements that would first create or extend the ledger's table.
    """

    plan: UpPlan
    preparation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A migration failed; those before it are applied.

    Attributes:
        migration: The migration that failed.
        reason: File, line and error.
        session_ended: Whether the session ended with it, so that the ledger does not have the reason.
    """

    migration: Migration
    reason: str
    session_ended: bool = False


@dataclass(frozen=True, slots=True)
class LockNotAcquired:
    """Another session held the advisory lock for longer than `lock_wait_timeout`.

    Attributes:
        holder: That session; None where the lock was free again when the holder was looked up.
    """

    holder: LockHolder | None


Outcome = Done | Refusal | Failed | LockNotAcquired


@dataclass(slots=True)
class RunProgress:
    """How far a run has come, over all its connections.

    Attributes:
        applied: The migrations that it has applied, in order.
        running: The migration that runs now; None between two migrations.
        total: How many it applies in all, those in `applied` included.
        batch: Its batch number in the ledger; None before the first plan.
    """

    applied: list[Migration] = field(default_factory=list)
    running: Migration | None = None
    total: int = 0
    batch: int | None = None

    def report_interruption(self, reporter: Reporter) -> None:
        """Report how many migrations are applied, and what becomes of the one that ran."""
        running = self.running
        result = "is rolled back" if running and running.up.transactional else "is recorded as failed"
        rest = f"; {running.revision} {result}" if running else ""
        text = f"interrupted: {len(self.applied)} of {self.total} applied by this run{rest}"
        reporter.info("interrupted", text, applied=len(self.applied), total=self.total)


def plan_run(run: RunOptions, ledger: Ledger) -> UpPlan | Refusal:
    """Return what the run has to do with this ledger."""
    return plan_up(run.migrations, ledger, run.target, out_of_order=run.out_of_order, expand_only=run.expand_only)
