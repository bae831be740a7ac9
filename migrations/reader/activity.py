"""Who is at work on a ledger: by our lock, by the tool's own, or by one that is a row of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.core.snapshot import ActiveMigration, RowLock
from migrations.postgres import advisory_lock

if TYPE_CHECKING:
    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session


async def find_active_migration(session: Session, location: Location) -> ActiveMigration | None:
    """Tell who migrates now, by our own lock or the tool's; None when nobody does, or the tool takes no lock.

    Raises:
        DatabaseError: As `failures` says.
    """
    for key in (advisory_lock.lock_key(location.table.relation), *location.dialect.lock_keys(location.table)):
        holder = await advisory_lock.find_holder(session, key)
        if holder is not None:
            name = holder.pod or holder.application or f"backend {holder.pid}"
            return ActiveMigration(name, holder.revision, holder.since)
    return None


async def read_row_lock(session: Session, location: Location) -> RowLock | None:
    """Tell whether the lock that the tool keeps in a table is taken; None when it is not, or there is none.

    Raises:
        DatabaseError: As `failures` says.
    """
    dialect, ledger = location.dialect, location.table
    table, statement = dialect.lock_relation(ledger), dialect.read_lock_statement(ledger)
    if table is None or statement is None or not await session.exists(table):
        return None
    rows = await session.rows(statement)
    return RowLock(rows[0]["holder"], rows[0]["since"]) if rows else None
