"""Writing the native ledger: its statements, bound to one table and the values of one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from migrations.core.revision import spellings
from migrations.runner.run import MigrationLimits
from migrations.sql.statements import bind, literal, load, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrations.core.migration import Migration
    from migrations.postgres.errors import StatementFailed
    from migrations.postgres.held_lock import HeldLock
    from migrations.postgres.session import Session
    from migrations.runner.run import RunOptions

_SQL = load("ledgergate")
RESET_ROLE = "set local session authorization default;set local role to default;"
"""Precedes each write to the ledger within a migration's session: the migration may have taken a role that has no
privilege on the ledger's table, or that would own it. LOCAL ends with the transaction, so the migration's next
statement has its role again."""
_NOT_NULL_VIOLATION = "23502"

ENTRY_BEGINS = "prepare ledgergate_entry as select;"
"""Precedes a write to the ledger in a message that also has statements of the migration. Most errors have no position,
and a prepared statement outlives a rollback: it shows that the migration's own statements had succeeded."""
ENTRY_ENDS = "deallocate ledgergate_entry;"


async def failed_in_entry(session: Session) -> bool:
    """Return whether a message that has failed, and is rolled back, had reached the write to the ledger."""
    if not await session.fetch_value(_SQL["has_entry_begun"]):
        return False
    await session.execute(ENTRY_ENDS)
    return True


@dataclass(frozen=True, slots=True)
class LedgerWriter:
    """The native ledger as one run writes it.

    Attributes:
        schema: Schema of the table.
        table: Name of the table.
        batch: Number of the run, which `down` undoes as a whole.
        applied_by: Pod or host.
        limits: Defaults for each migration.
        lock: The lock that the session must hold at each write; None where no migration's SQL runs in the session.
    """

    schema: str
    table: str
    batch: int
    applied_by: str
    limits: MigrationLimits = field(default_factory=MigrationLimits)
    lock: HeldLock | None = None
    _fixed: Mapping[str, str] = field(init=False, repr=False, compare=False)  # what is the same in every statement

    def __post_init__(self) -> None:
        table, schema = quoted(self.schema, self.table), quoted(self.schema)
        lock_is_held = self.lock.is_held if self.lock else "true"
        object.__setattr__(self, "_fixed", {"table": table, "schema": schema, "lock_is_held": lock_is_held})

    @classmethod
    def for_run(cls, run: RunOptions, batch: int, lock: HeldLock | None = None) -> Self:
        """Return the writer of a run."""
        dialect = run.source.dialect
        schema, table = run.source.schema or dialect.schema or "public", run.source.table or dialect.table
        return cls(schema, table, batch, run.applied_by, run.limits, lock)

    def statement(self, name: str, guard: str | None = None, **values: str | int | None) -> str:
        """Return a statement of sql/ledgergate.sql for this table, with the values as literals.

        Literals, not parameters: a message of several statements can have no parameters.

        Args:
            name: The statement's name.
            guard: An SQL expression; where it is false, a statement with a guard fails.
            values: What is bound by name.
        """
        literals = {**self._fixed, **{key: literal(value) for key, value in values.items()}}
        if isinstance(revision := values.get("revision"), str):
            literals["decomposed"] = literal(spellings(revision)[-1])
        if guard is not None:
            literals["guard"] = guard
        return bind(_SQL[name], **literals)

    def guarded_statement(self, name: str, session: Session, migration: Migration) -> str:
        """Return a statement about a migration that fails unless it runs in the transaction that we began.

        A migration could end that transaction, for instance by a Python function that executes COMMIT. What it did and
        its row would then be committed one after the other, and a crash could separate them. So the statement checks
        two things, and where one does not hold, it writes null to `revision`, which is NOT NULL:

        - The transaction is DEFERRABLE, as those that we begin are. DEFERRABLE has no effect on a transaction that
          writes, RESET ALL does not change it, and a transaction after COMMIT does not inherit it (the session's
          default is off).
        - The backend is the one that holds the lock. Behind a pooler it could be another.
        """
        backend = f" and pg_backend_pid() = {session.lock_pid}" if session.lock_pid else ""
        return self.statement(
            name,
            f"current_setting('transaction_deferrable')::boolean{backend}",
            revision=migration.revision,
            checksum=migration.checksum,
            batch=self.batch,
            applied_by=self.applied_by,
            compatible_from=migration.compatible_from,
        )

    def is_failed_guard(self, error: StatementFailed) -> bool:
        """Return whether a guarded statement did not run in the transaction that we began."""
        return error.sqlstate == _NOT_NULL_VIOLATION and error.column == f"{self.table}.revision"

    def is_lock_lost(self, error: StatementFailed) -> bool:
        """Return whether a statement was refused because the session no longer holds the lock."""
        return error.sqlstate == _NOT_NULL_VIOLATION and error.column == f"{self.table}.applied_by"

    @property
    def name(self) -> str:
        """The table's name, for messages."""
        return f"{self.schema}.{self.table}"


async def prepare_table(session: Session, writer: LedgerWriter) -> None:
    """Create the ledger's table where it is missing, and add the columns that an older version did not have.

    To be called under the lock. Looks before it writes, since CREATE ... IF NOT EXISTS needs the privilege to create
    even where there is nothing to create.
    """
    for name in await find_preparation(session, writer):
        await session.execute(writer.statement(name))


async def find_preparation(session: Session, writer: LedgerWriter) -> tuple[str, ...]:
    """Return the names of the statements that create the ledger's table or bring it up to date, in order."""
    name = quoted(writer.schema, writer.table)
    if not await session.table_exists(name):
        return ("create",) if await session.schema_exists(quoted(writer.schema)) else ("create_schema", "create")
    return () if await session.fetch_value(writer.statement("extended"), name) else ("extend",)
