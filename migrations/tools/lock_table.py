"""Freeing the lock of a tool that is a row of a table, which a killed process leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.postgres.errors import TimedOut
from migrations.sql.statements import bind, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session

_SQL = load("lock_table")


@dataclass(frozen=True, slots=True)
class LockOwner:
    """A session that may own the row lock.

    Attributes:
        pid: Process id of its backend; 0 where it is unknown.
        application: Its `application_name`.
        reason: What it does, or did last, that looks like a migration.
    """

    pid: int
    application: str
    reason: str

    def __str__(self) -> str:
        return f"backend {self.pid}{f' ({self.application})' if self.application else ''} {self.reason}"


async def clear_row_lock(session: Session, location: Location) -> Sequence[LockOwner]:
    """Free the row lock unless a session may own it; return those that may, none when it is free now.

    To be called under our lock of the ledger, which proves that no run of `exec` owns the row. What remains is a run of
    the tool outside `exec`. Sessions that hold a lock which only migrations take, or the tool's own advisory lock, or
    that have used the ledger or changed the schema recently, may belong to one; see sql/lock_table.sql. Everything
    happens in one transaction with a lock on the table, so that no session can take the row meanwhile.

    Raises:
        DatabaseError: The connection was lost, or a statement failed.
    """
    dialect, place = location.dialect, location.place
    table, statement = dialect.lock_table(place), dialect.clear_lock(place)
    if table is None or statement is None:
        return ()
    lock_name = table.rpartition(".")[2].strip('"')
    keys = list(dialect.keys(place))
    try:
        async with session.transaction():
            await session.execute(bind(_SQL["seize"], lock=table))
            names = (place.relation, table, place.table, lock_name)
            rows = await session.fetch(_SQL["owners"], *names, dialect.name, keys)
            if not rows:
                await session.execute(statement)
            return tuple(LockOwner(row["pid"], row["application_name"] or "", row["reason"]) for row in rows)
    except TimedOut:  # the lock on the table was not granted within lock_timeout
        return (LockOwner(0, "", f"has locked {table}"),)
