"""Frees the lock of a tool that is a row of a table: whoever is killed leaves it behind."""

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
    """A session that may be who has taken the row.

    Attributes:
        pid: Its backend on the server.
        application: Its `application_name`.
        reason: What it does or did that looks like migrating.
    """

    pid: int
    application: str
    reason: str

    def __str__(self) -> str:
        return f"backend {self.pid}{f' ({self.application})' if self.application else ''} {self.reason}"


async def clear_row_lock(session: Session, location: Location) -> Sequence[LockOwner]:
    """Free the row unless somebody may own it; gives who that could be, and nobody when it is free now.

    To be called under the lock of the ledger, which proves that no run of `exec` owns the row. What is looked for is a
    run outside: a session that holds a lock which only migrating takes, the tool's own advisory lock, or that was the
    last to use the ledger. All this in one transaction, in which nobody can take the row.

    Raises:
        DatabaseError: As `failures` says.
    """
    dialect, ledger = location.dialect, location.table
    table, statement = dialect.lock_relation(ledger), dialect.unlock_statement(ledger)
    if table is None or statement is None:
        return ()
    bare = table.rpartition(".")[2].strip('"')
    keys = list(dialect.lock_keys(ledger))
    try:
        async with session.transaction():
            await session.execute(bind(_SQL["seize"], lock=table))
            rows = await session.rows(_SQL["owners"], ledger.relation, table, ledger.name, bare, dialect.name, keys)
            if not rows:
                await session.execute(statement)
            return tuple(LockOwner(row["pid"], row["application_name"] or "", row["reason"]) for row in rows)
    except TimedOut:
        return (LockOwner(0, "", f"has locked {table}"),)
