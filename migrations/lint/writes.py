"""Rows that are written in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import relation_name, walk
from migrations.lint.rule import LOCKING, Level, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import Name, ParsedStatement

MIXED_DDL_DML = Rule(
    "mixed-ddl-dml",
    Level.ERROR,
    "Rows are written in a transaction that has locked a table, which stays locked until all of them are written.",
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
    "UPDATE or DELETE without WHERE locks every row until the transaction ends, and leaves each old row for VACUUM.",
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
# These take SHARE UPDATE EXCLUSIVE, which lets reads and writes pass.
_WEAK = {_AT.AT_ValidateConstraint, _AT.AT_SetStatistics, _AT.AT_AttachPartition, _AT.AT_ClusterOn}
_QUERIES = ast.SelectStmt | ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield the writes of many rows, and the writes under a lock that an earlier statement took."""
    if not isinstance(statement.node, _QUERIES):
        return
    locked = context.schema.locked_table
    still_locked = locked[1] if locked and locked[0] == context.transaction else None
    for node in walk(statement.node):
        table = _written_table(node)
        if table is None:
            continue
        if still_locked is not None and not (_changes_rows(node) and context.is_new(table)):
            yield Violation(
                MIXED_DDL_DML,
                f"{still_locked} stays locked by a statement above while rows of {table} are written",
                ("-- in a migration of its own, after this one, in batches:", _in_batches(node, table)),
            )
        elif _changes_rows(node) and node.whereClause is None and not context.is_new(table):
            yield Violation(
                BULK_WRITE,
                f"every row of {table} is locked until the transaction ends",
                ("-- in batches, each in a transaction of its own:", _in_batches(node, table)),
            )


def locked_table(node: Any, context: StatementContext) -> Name | None:
    """Return the existing table that a statement locks against reads or writes until its transaction ends."""
    match node:
        case ast.AlterTableStmt(objtype=enums.ObjectType.OBJECT_TABLE, cmds=(_, *_) as commands) if any(
            command.subtype not in _WEAK for command in commands
        ):
            table = relation_name(node.relation)
        case ast.IndexStmt(concurrent=False) | ast.CreateTrigStmt():
            table = relation_name(node.relation)
        case ast.RenameStmt(relation=ast.RangeVar()) if node.renameType in {
            enums.ObjectType.OBJECT_TABLE,
            enums.ObjectType.OBJECT_COLUMN,
        }:
            table = relation_name(node.relation)
        case _:
            return None
    return None if context.is_new(table) else table


def _written_table(node: Any) -> Name | None:
    """Return the table that a statement writes, where it may write many rows."""
    match node:
        case ast.UpdateStmt() | ast.DeleteStmt() | ast.MergeStmt():
            return relation_name(node.relation)
        case ast.InsertStmt(selectStmt=ast.SelectStmt(fromClause=(_, *_))):
            return relation_name(node.relation)
        case _:
            return None


def _changes_rows(node: Any) -> bool:
    return isinstance(node, ast.UpdateStmt | ast.DeleteStmt)


def backfill(table: Name, column: str, value: str) -> str:
    """Return an UPDATE that fills a part of a new column."""
    return f"UPDATE {table} SET {column} = {value} WHERE {column} IS NULL AND ...;"  # noqa: S608 - shown, never run


def _in_batches(node: Any, table: Name) -> str:
    if isinstance(node, ast.DeleteStmt):
        return f"DELETE FROM {table} WHERE id BETWEEN ... AND ...;"  # noqa: S608 - shown, never run
    if isinstance(node, ast.UpdateStmt):
        return f"UPDATE {table} SET ... WHERE id BETWEEN ... AND ...;"  # noqa: S608 - as above
    return f"INSERT INTO {table} SELECT ... WHERE id BETWEEN ... AND ...;"
