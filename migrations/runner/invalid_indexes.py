"""INVALID indexes that an interrupted CONCURRENTLY has left.

Such an index costs time at every write and is used by no query. CREATE INDEX fails on it, and CREATE INDEX IF NOT
EXISTS takes it for the finished index. Only indexes that the statement itself names are dropped.
Source: https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrations.runner.splitter import IndexAction
from migrations.sql.statements import bind, load, quoted

if TYPE_CHECKING:
    from migrations.postgres.session import Session
    from migrations.runner.splitter import IndexOperation, Statement

_SQL = load("invalid_indexes")


async def drop_invalid_indexes(session: Session, operation: IndexOperation) -> list[str]:
    """Drop the INVALID indexes that an earlier attempt at this operation left, and return their quoted names.

    Raises:
        DatabaseError: The connection was lost, or an index cannot be dropped.
    """
    # DROP INDEX drops an INVALID index as well. An index whose name PostgreSQL chooses cannot be found by name.
    if operation.name is None or operation.action is IndexAction.DROP:
        return []
    if operation.action is IndexAction.CREATE:
        rows = await session.fetch(_SQL["of_index"], operation.schema, operation.name)
    else:
        rows = await session.fetch(_SQL["of_reindex"], quoted(operation.schema, operation.name))
    names = list(dict.fromkeys(quoted(row["schema"], row["name"]) for row in rows))
    for name in names:
        await session.execute(bind(_SQL["drop"], index=name))
    return names


async def has_completed(session: Session, statement: Statement) -> bool | None:
    """Return whether a statement that had begun was completed, judged by its effect.

    Returns:
        False also for a statement that may run again either way. None where the effect cannot be seen, and the
        statement may not run again.

    Raises:
        DatabaseError: The connection was lost, or the query failed.
    """
    if statement.repeatable:
        return False
    index = statement.index
    if index is None or index.name is None or index.action not in {IndexAction.CREATE, IndexAction.DROP}:
        return None
    rows = await session.fetch(_SQL["validity"], quoted(index.schema, index.name))
    if index.action is IndexAction.DROP:
        return not rows
    return bool(rows and rows[0]["valid"])
