"""Finding who migrates now: from our lock, from the tool's own advisory lock, or from its lock row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.core.snapshot import ActiveMigration, RowLock
from migrations.core.text import clean, shorten
from migrations.postgres import advisory_lock
from migrations.reader.reader import READ_TIMEOUT
from migrations.sql.statements import load

if TYPE_CHECKING:
    from migrations.dialects.detection import Location
    from migrations.postgres.advisory_lock import LockHolder
    from migrations.postgres.session import Session


_SQL = load("reading")


async def find_active_migration(session: Session, location: Location) -> ActiveMigration | None:
    """Return who holds our lock of the ledger, else who holds the tool's own advisory lock; None where both are free.

    Raises:
        DatabaseError: The connection was lost, or a query failed.
    """
    ours = advisory_lock.lock_key(location.table.relation)
    for key in (ours, *location.dialect.lock_keys(location.table)):
        holder = await advisory_lock.find_holder(session, key)
        if key == ours and _is_in_between(holder):
            holder = await advisory_lock.find_holder(session, key)
            if _is_in_between(holder):
                continue  # its server process was suspended just there: the run has not begun, or is over
        if holder is not None:
            name = holder.pod or holder.application or f"backend {holder.pid}"
            return ActiveMigration(name, holder.revision, holder.since)
    return None


def _is_in_between(holder: LockHolder | None) -> bool:
    """Return whether a command of ledgergate holds the lock without its companion.

    They are taken and released one after the other, and the companion once more after each migration. A person who
    holds the lock in psql has no companion either.
    """
    return holder is not None and holder.pod is not None and holder.since is None


async def find_hidden_row_lock(session: Session, location: Location) -> str | None:
    """Return the quoted name of the lock row's table where our role may not read it.

    Raises:
        DatabaseError: The connection was lost, or a query failed.
    """
    table = location.dialect.lock_relation(location.table)
    return table if table and await session.fetch_value(_SQL["readable"], table) is False else None


async def read_row_lock(session: Session, location: Location) -> RowLock | None:
    """Return the tool's lock row while it is taken; None while it is free, cannot be read, or where the tool has none.

    Raises:
        DatabaseError: The connection was lost, or a query failed.
    """
    table = location.dialect.lock_relation(location.table)
    statement = location.dialect.read_lock_statement(location.table)
    if table is None or statement is None:
        return None
    async with session.read_only(READ_TIMEOUT):  # it sets row_security = off: a policy that hides the row raises
        if not await session.fetch_value(_SQL["readable"], table):
            return None
        rows = await session.fetch(statement)
    return RowLock(_shown(rows[0]["holder"]), rows[0]["since"]) if rows else None


def _shown(holder: str | None) -> str | None:
    return holder and clean(shorten(holder))
