"""Rows that are written in bulk, and other long work while a table is locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.batches import in_batches
from migrations.lint.parser import relation_name, walk
from migrations.lint.rule import LOCKING, Level, Rule, Violation
from migrations.lint.selectivity import is_bulk

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
    details=(
        "ALTER TABLE needs its lock for an instant, but the transaction keeps it until the last row is written. So do "
        "CREATE TABLE … REFERENCES, which locks the other table against writes, CREATE TRIGGER, DROP and RENAME."
    ),
    safe=(
        "-- in a migration of its own, after this one, in batches:",
        "UPDATE users SET age = 0 WHERE id BETWEEN 1 AND 10000;",
    ),
)
WORK_UNDER_LOCK = Rule(
    "work-under-lock",
    Level.ERROR,
    "A table is scanned in a transaction that has locked a table, which stays locked until the scan is done.",
    LOCKING,
    details=(
        "VALIDATE CONSTRAINT, ANALYZE, CREATE TABLE AS, REFRESH … CONCURRENTLY, COPY and an index on a table that was "
        "just filled block no one by themselves, but a lock that an earlier statement took on any table is kept "
        "meanwhile."
    ),
    safe=(
        "-- in a migration of its own, after this one:",
        "ALTER TABLE orders VALIDATE CONSTRAINT orders_user_id_fkey;",
    ),
)
BULK_WRITE = Rule(
    "bulk-write",
    Level.WARNING,
    "UPDATE or DELETE of a large part of a table locks those rows until the transaction ends, and leaves each old row "
    "for VACUUM.",
    "https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS",
    None,
    ("backfilling data",),
    details=(
        "Reads pass, but writers of the same rows wait, and VACUUM has to clean up afterwards. A WHERE passes that "
        "names rows by a key or a range of keys, by values with `=` or IN, or by a subquery with a LIMIT; NULL, a "
        "truth value, an inequality and a join may be true for any number of rows."
    ),
    safe=(
        "-- in batches, each in a transaction of its own:",
        "UPDATE users SET age = 0 WHERE id BETWEEN 1 AND 10000;",
    ),
)
RULES = (MIXED_DDL_DML, WORK_UNDER_LOCK, BULK_WRITE)

_QUERIES = ast.SelectStmt | ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt
_AT = enums.AlterTableType


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield the writes of many rows, and the long work under a lock that an earlier statement took."""
    locked = context.schema.locked(context.transaction)
    if not isinstance(statement.node, _QUERIES) or getattr(statement.node, "intoClause", None) is not None:
        if locked is not None and (work := _work(statement.node, context)):
            safe = ("-- in a migration of its own, after this one:", f"{statement.text};")
            yield Violation(WORK_UNDER_LOCK, f"{locked} stays locked by a statement above while {work}", safe)
        return
    for node in walk(statement.node):
        table = _written_table(node)
        if table is None:
            continue
        # An INSERT or a MERGE reads another table, which may be large even where the written one is new.
        if locked is not None and not (_changes_rows(node) and context.is_new(table)):
            yield Violation(
                MIXED_DDL_DML,
                f"{locked} stays locked by a statement above while rows of {table} are written",
                ("-- in a migration of its own, after this one, in batches:", in_batches(node, table)),
            )
        elif (
            _changes_rows(node) and not context.is_new(table) and is_bulk(node.whereClause, context.schema.table(table))
        ):
            which = "every row" if node.whereClause is None else "a large part"
            verb = "is" if node.whereClause is None else "may be"
            yield Violation(
                BULK_WRITE,
                f"{which} of {table} {verb} locked until the transaction ends",
                ("-- in batches, each in a transaction of its own:", in_batches(node, table)),
            )


def _work(node: Any, context: StatementContext) -> str | None:  # noqa: PLR0911 - a table of statements, as patterns
    """Describe what a statement does that takes long and is no hazard by itself; None where it does no such thing."""
    match node:
        case ast.AlterTableStmt():
            table = relation_name(node.relation)
            if not context.is_new(table) and any(c.subtype == _AT.AT_ValidateConstraint for c in node.cmds or ()):
                return f"every row of {table} is checked"
        case ast.VacuumStmt(is_vacuumcmd=False):
            return "ANALYZE reads the table"
        case ast.CreateTableAsStmt(query=ast.SelectStmt(fromClause=(_, *_)), into=ast.IntoClause() as into):
            return None if into.skipData else f"the rows of {relation_name(into.rel)} are written"
        case ast.SelectStmt(fromClause=(_, *_), intoClause=ast.IntoClause(rel=created)):
            return f"the rows of {relation_name(created)} are written"
        case ast.RefreshMatViewStmt(concurrent=True):
            return f"the query of {relation_name(node.relation)} is run"
        case ast.CopyStmt(is_from=True):
            return f"rows of {relation_name(node.relation)} are written"
        case ast.IndexStmt():
            known = context.schema.table(relation_name(node.relation))
            if known and known.filled and context.is_new(known.name):
                return f"an index on the rows of {known.name} is built"
    return None


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
