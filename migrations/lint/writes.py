"""Rows that are written in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import relation, walk
from migrations.lint.rule import LOCKING, Hit, Level, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.parser import Name, ParsedStatement
    from migrations.lint.schema import Schema, StatementContext

MIXED_DDL_DML = Rule(
    "mixed-ddl-dml",
    Level.ERROR,
    "Rows are written in the transaction that has changed a table, whose lock is kept until they are.",
    LOCKING,
    None,
    ("backfilling data",),
    details="ALTER TABLE needs its lock for an instant, but the transaction keeps it until the last row is written.",
    safe=(
        "-- in a migration of its own, after this one, in batches:",
        "UPDATE users SET age = 0 WHERE id BETWEEN 1 AND 10000;",
    ),
)
BULK_WRITE = Rule(
    "bulk-write",
    Level.WARNING,
    "UPDATE or DELETE without WHERE locks every row of the table until the transaction ends, and doubles its size.",
    "https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS",
    None,
    ("backfilling data",),
    details="Reads pass, but writers of the same rows wait, and VACUUM has to clean up afterwards.",
    safe=(
        "-- in batches, each in a transaction of its own:",
        "UPDATE users SET age = 0 WHERE id BETWEEN 1 AND 10000;",
    ),
)
RULES = (MIXED_DDL_DML, BULK_WRITE)

_AT = enums.AlterTableType
_WEAK = {_AT.AT_ValidateConstraint, _AT.AT_SetStatistics, _AT.AT_AttachPartition, _AT.AT_ClusterOn}
_QUERIES = ast.SelectStmt | ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt


def check(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    """Give the rows that a statement writes in bulk."""
    if not isinstance(statement.node, _QUERIES):
        return
    locked = catalog.locked
    kept = locked[1] if locked and locked[0] == place.transaction else None
    for node in walk(statement.node):
        table = _bulk(node)
        if table is None:
            continue
        if kept is not None and not (_changes(node) and catalog.is_new(table, place.file)):
            yield Hit(
                MIXED_DDL_DML,
                f"{kept} stays locked by a statement above while rows of {table} are written",
                ("-- in a migration of its own, after this one, in batches:", _batch(node, table)),
            )
        elif _changes(node) and node.whereClause is None and not catalog.is_new(table, place.file):
            yield Hit(
                BULK_WRITE,
                f"every row of {table} is locked until the transaction ends",
                ("-- in batches, each in a transaction of its own:", _batch(node, table)),
            )


def locks(node: Any, place: StatementContext, catalog: Schema) -> Name | None:
    """Give the existing table that a statement keeps others from until its transaction ends."""
    match node:
        case ast.AlterTableStmt(objtype=enums.ObjectType.OBJECT_TABLE, cmds=(_, *_) as commands) if any(
            command.subtype not in _WEAK for command in commands
        ):
            table = relation(node.relation)
        case ast.IndexStmt(concurrent=False) | ast.CreateTrigStmt():
            table = relation(node.relation)
        case ast.RenameStmt(relation=ast.RangeVar()) if node.renameType in {
            enums.ObjectType.OBJECT_TABLE,
            enums.ObjectType.OBJECT_COLUMN,
        }:
            table = relation(node.relation)
        case _:
            return None
    return None if catalog.is_new(table, place.file) else table


def _bulk(node: Any) -> Name | None:
    """Give the table of a statement that may write many rows."""
    match node:
        case ast.UpdateStmt() | ast.DeleteStmt() | ast.MergeStmt():
            return relation(node.relation)
        case ast.InsertStmt(selectStmt=ast.SelectStmt(fromClause=(_, *_))):
            return relation(node.relation)
        case _:
            return None


def _changes(node: Any) -> bool:
    return isinstance(node, ast.UpdateStmt | ast.DeleteStmt)


def fill(table: Name, column: str, value: str) -> str:
    """Write an UPDATE that fills a part of a new column."""
    return f"UPDATE {table} SET {column} = {value} WHERE {column} IS NULL AND ...;"  # noqa: S608 - shown, never run


def _batch(node: Any, table: Name) -> str:
    if isinstance(node, ast.DeleteStmt):
        return f"DELETE FROM {table} WHERE id BETWEEN ... AND ...;"  # noqa: S608 - shown, never run
    if isinstance(node, ast.UpdateStmt):
        return f"UPDATE {table} SET ... WHERE id BETWEEN ... AND ...;"  # noqa: S608 - as above
    return f"INSERT INTO {table} SELECT ... WHERE id BETWEEN ... AND ...;"
