"""The native ledger as a run writes it: every statement bound to its table and its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from migrations.runner.retry import MigrationLimits
from migrations.sql.statements import bind, literal, load, quoted

if TYPE_CHECKING:
    from migrations.core.migration import Migration
    from migrations.postgres.session import Session
    from migrations.runner.run import RunOptions

_SQL = load("ledgergate")
RESET_ROLE = "set local role to default;"
"""Before what writes the ledger in a transaction of a migration, which may have taken a role that must not."""


@dataclass(frozen=True, slots=True)
class LedgerWriter:
    """Where a run writes what it does.

    Attributes:
        schema: Of the ledger's table.
        table: Its name.
        batch: Number of the run.
        applied_by: Pod or host.
        limits: Of every migration that has none of its own.
    """

    schema: str
    table: str
    batch: int
    applied_by: str
    limits: MigrationLimits = field(default_factory=MigrationLimits)

    def sql(self, name: str, **values: str | int | None) -> str:
        """Give a statement of the native ledger for this table, with these values as literals."""
        texts = {key: literal(value) for key, value in values.items()}
        return bind(_SQL[name], table=quoted(self.schema, self.table), schema=quoted(self.schema), **texts)

    def entry(self, name: str, session: Session, migration: Migration) -> str:
        """Give a statement about a migration, which fails unless it runs where its transaction began.

        What is checked are the backend that took the lock, and that the transaction is DEFERRABLE as ours are: that
        means nothing to one that writes, RESET ALL leaves it alone, and what follows a COMMIT does not have it.
        """
        text = self.sql(
            name,
            revision=migration.revision,
            checksum=migration.checksum,
            batch=self.batch,
            applied_by=self.applied_by,
            compatible_from=migration.compatible_from,
        )
        backend = f" and pg_backend_pid() = {session.locked_by}" if session.locked_by else ""
        return bind(text, guard=f"current_setting('transaction_deferrable')::boolean{backend}")

    @property
    def guard(self) -> str:
        """The column that is null where an entry's check fails, as an error names it."""
        return f"{self.table}.revision"


async def prepare(session: Session, writer: LedgerWriter) -> None:
    """Create the ledger's table where it is missing, and what it lacks; to be called under the lock."""
    name = quoted(writer.schema, writer.table)
    if not await session.exists(name):
        if not await session.schema_exists(quoted(writer.schema)):
            await session.execute(writer.sql("create_schema"))
        await session.execute(writer.sql("create"))
    elif not await session.value(writer.sql("extended"), name):
        await session.execute(writer.sql("extend"))


def ledger_writer(run: RunOptions, batch: int) -> LedgerWriter:
    """Say where and as what a run writes."""
    dialect = run.source.dialect
    schema, table = run.source.schema or dialect.schema or "public", run.source.table or dialect.table
    return LedgerWriter(schema, table, batch, run.applied_by, run.limits)
