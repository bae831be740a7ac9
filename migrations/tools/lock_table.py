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
    from migrations.tools.exec_mark import MarkTable

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


async def find_owners(session: Session, location: Location, *, unlikely: bool = False) -> Sequence[LockOwner]:
    """Return the sessions that may own the row lock, as far as the server shows them.

    These hold a lock which only migrations take, or the tool's own advisory lock, or have used the ledger or changed
    the schema recently; see sql/lock_table.sql. That none is found does not prove that there is no owner.

    Args:
        session: A session with the ledger's database.
        location: The ledger.
        unlikely: Whether to add every session whose role may write the lock, whatever the session does.

    Raises:
        DatabaseError: The connection was lost, or a statement failed.
    """
    dialect, ledger = location.dialect, location.table
    table = dialect.lock_relation(ledger)
    if table is None:
        return ()
    lock_name = table.rpartition(".")[2].strip('"')
    names = (ledger.relation, table, ledger.name, lock_name)
    rows = await session.fetch(_SQL["owners"], *names, dialect.name, list(dialect.lock_keys(ledger)), unlikely)
    return tuple(LockOwner(row["pid"], row["application_name"] or "", row["reason"]) for row in rows)


async def free_row_lock(session: Session, location: Location, marks: MarkTable, version: str) -> bool:
    """Free the row lock in this version, whose owner is proven to be dead, and take the mark away.

    Everything happens in one transaction with a lock on the table, so that no session can take the row meanwhile.

    Returns:
        Whether it is free now. It is not where another session has locked the table, or has written the row since.

    Raises:
        DatabaseError: The connection was lost, or a statement failed.
    """
    statement = location.dialect.unlock_statement(location.table)
    try:
        async with session.transaction():
            await session.execute(bind(_SQL["seize"], lock=marks.lock_relation))
            if statement is None or await marks.lock_row_version() != version:
                return False
            await session.execute(statement)
            await marks.remove()
            return True
    except TimedOut:  # the lock on the table was not granted within lock_timeout
        return False
