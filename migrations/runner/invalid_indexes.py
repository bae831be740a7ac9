"""Finds and drops the INVALID indexes of an interrupted CONCURRENTLY, those alone that a statement itself names.

An INVALID index costs every write and serves no read; CREATE INDEX fails on it, and IF NOT EXISTS takes it for done.
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


async def drop_invalid_indexes(session: Session, work: IndexOperation) -> list[str]:
    """Drop what an earlier attempt at this work left, and give the quoted names.

    Raises:
        DatabaseError: As `database` says.
    """
    if work.name is None or work.work is IndexAction.DROP:  # DROP INDEX drops an INVALID one as well
        return []
    if work.work is IndexAction.CREATE:
        rows = await session.rows(_SQL["of_index"], work.schema, work.name)
    else:
        rows = await session.rows(_SQL["of_reindex"], quoted(work.schema, work.name))
    names = list(dict.fromkeys(quoted(row["schema"], row["name"]) for row in rows))
    for name in names:
        await session.execute(bind(_SQL["drop"], index=name))
    return names


async def has_completed(session: Session, statement: Statement) -> bool | None:
    """Tell whether a statement that began has come to its end, by what it was to bring about.

    Returns:
        None when that cannot be told, and it may not simply run again.

    Raises:
        DatabaseError: As `database` says.
    """
    if statement.repeatable:
        return False
    index = statement.index
    if index is None or index.name is None or index.work not in {IndexAction.CREATE, IndexAction.DROP}:
        return None
    rows = await session.rows(_SQL["standing"], quoted(index.schema, index.name))
    if index.work is IndexAction.DROP:
        return not rows
    return bool(rows and rows[0]["valid"])
