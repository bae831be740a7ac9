"""Indexes and materialized views that are built, rebuilt or dropped under a lock that blocks queries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, qualified_name, relation_name, to_sql
from migrations.lint.rule import LOCKING, OWN_MIGRATION, Level, Lock, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement

# The words behind which CONCURRENTLY stands.
_VERBS = re.compile(
    r"(create\s+(?:unique\s+)?index|drop\s+index|reindex\s+(?:\([^)]*\)\s*)?(?:index|table|schema|database|system)"
    r"|refresh\s+materialized\s+view)(?=\s)",
    re.IGNORECASE,
)

INDEX_NOT_CONCURRENT = Rule(
    "index-not-concurrent",
    Level.ERROR,
    "CREATE INDEX without CONCURRENTLY blocks every write to the table until the index is built.",
    "https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY",
    Lock.SHARE,
    ("require-concurrent-index-creation", "add_index"),
    details=(
        "While the index is built, which takes minutes on a large table, every INSERT, UPDATE and DELETE "
        "waits, and so does every request behind them. CONCURRENTLY lets them pass; it takes longer, and "
        "cannot run inside a transaction. An index `ON ONLY` a partitioned table is empty and passes."
    ),
    safe=(
        "-- migrate:up transaction:false",
        "CREATE INDEX CONCURRENTLY users_email_idx ON users (email);",
    ),
)
DROP_INDEX_NOT_CONCURRENT = Rule(
    "drop-index-not-concurrent",
    Level.ADVICE,
    "DROP INDEX without CONCURRENTLY blocks reads and writes of the table, and waits behind every query on it.",
    "https://www.postgresql.org/docs/current/sql-dropindex.html",
    Lock.ACCESS_EXCLUSIVE,
    ("require-concurrent-index-deletion", "remove_index"),
    details=(
        "The drop itself takes no time, but it waits behind every query that runs on the table, and "
        "every later query waits behind it, as with short-lock, which has the same level."
    ),
    safe=(
        "-- migrate:up transaction:false",
        "DROP INDEX CONCURRENTLY IF EXISTS users_email_idx;",
    ),
)
REINDEX_NOT_CONCURRENT = Rule(
    "reindex-not-concurrent",
    Level.ERROR,
    "REINDEX without CONCURRENTLY blocks every write to the table, and every read that would use the index.",
    "https://www.postgresql.org/docs/current/sql-reindex.html#SQL-REINDEX-CONCURRENTLY",
    Lock.SHARE,
    ("require-concurrent-reindex",),
    details=(
        "The table takes the lock below, the index itself ACCESS EXCLUSIVE. Planning a query opens every "
        "index of the table, so reads wait too."
    ),
    safe=(
        "-- migrate:up transaction:false",
        "REINDEX INDEX CONCURRENTLY users_email_idx;",
    ),
)
REFRESH_NOT_CONCURRENT = Rule(
    "refresh-not-concurrent",
    Level.ERROR,
    "REFRESH MATERIALIZED VIEW without CONCURRENTLY blocks every read of the view until its query is done.",
    LOCKING,
    Lock.ACCESS_EXCLUSIVE,
    details=(
        "With CONCURRENTLY, reads see the old rows until the new ones are there. It needs a UNIQUE index "
        "on plain columns of the view."
    ),
    safe=("REFRESH MATERIALIZED VIEW CONCURRENTLY totals;",),
)
RULES = (INDEX_NOT_CONCURRENT, DROP_INDEX_NOT_CONCURRENT, REINDEX_NOT_CONCURRENT, REFRESH_NOT_CONCURRENT)

REINDEX_MANY = {  # REINDEX of many tables: PostgreSQL commits after each, so it refuses a transaction block
    enums.ReindexObjectType.REINDEX_OBJECT_SCHEMA,
    enums.ReindexObjectType.REINDEX_OBJECT_SYSTEM,
    enums.ReindexObjectType.REINDEX_OBJECT_DATABASE,
}


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield what a statement does to indexes of existing tables under a blocking lock."""
    node = statement.node
    match node:
        case ast.IndexStmt(concurrent=False, relation=ast.RangeVar(inh=True)):  # not ON ONLY, whose index is empty
            yield from _check_create(statement, context)
        case ast.DropStmt(removeType=enums.ObjectType.OBJECT_INDEX, concurrent=False):
            yield from _check_drop(statement, context)
        case ast.ReindexStmt() if not is_concurrent(node):
            yield from _check_reindex(statement, context)
        case ast.RefreshMatViewStmt(concurrent=False) if not context.is_new(relation_name(node.relation)):
            view = str(relation_name(node.relation))
            yield Violation(
                REFRESH_NOT_CONCURRENT,
                f"REFRESH blocks every read of {view} until its query is done",
                (f"{_with_concurrently(statement)};  -- needs a UNIQUE index on plain columns of {view}",),
                (view,),
            )


def is_concurrent(node: Any) -> bool:
    """Return whether a statement has CONCURRENTLY."""
    if isinstance(node, ast.ReindexStmt):
        return any(option.defname == "concurrently" for option in node.params or ())
    if isinstance(node, ast.AlterTableStmt):
        return any(isinstance(c.def_, ast.PartitionCmd) and c.def_.concurrent for c in node.cmds or ())
    return isinstance(node, ast.IndexStmt | ast.DropStmt) and bool(node.concurrent)


def _check_create(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    node = statement.node
    name = relation_name(node.relation)
    known = context.schema.table(name)
    if context.is_new(name) or (node.if_not_exists and known and node.idxname in known.indexes):
        return
    if known and known.partition_key is not None:
        index = node.idxname or f"{name.name}_idx"
        safe: tuple[str, ...] = (
            f"CREATE INDEX {index} ON ONLY {name} ...;  -- empty, so it takes no time",
            f"-- then for each partition p of {name}, outside a transaction:",
            f"CREATE INDEX CONCURRENTLY {index}_p ON p ...;",
            f"ALTER INDEX {index} ATTACH PARTITION {index}_p;",
        )
    else:
        safe = (OWN_MIGRATION, f"{_with_concurrently(statement)};")
    yield Violation(
        INDEX_NOT_CONCURRENT, f"CREATE INDEX blocks every write to {name} until it is built", safe, (str(name),)
    )


def _check_drop(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    existing: list[Name] = []
    tables: list[str] = []
    for index in map(qualified_name, statement.node.objects):
        table = context.schema.table_of_index(index)
        if statement.node.missing_ok and context.schema.is_gone(statement.node.removeType, index):
            continue
        if table is None or not context.is_new(table):
            existing.append(index)
            tables.append(str(table) if table else f"the table of {index}")
    if existing:
        if_exists = "IF EXISTS " if statement.node.missing_ok else ""
        yield Violation(
            DROP_INDEX_NOT_CONCURRENT,
            f"DROP INDEX blocks reads and writes of {', '.join(tables)}, and waits behind every query on it",
            (OWN_MIGRATION, *(f"DROP INDEX CONCURRENTLY {if_exists}{index};" for index in existing)),
            tuple(tables),
        )


def _check_reindex(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    node = statement.node
    if node.kind in REINDEX_MANY or node.relation is None:
        of_name, tables = "", ("every table of the schema or database",)
    else:
        name = relation_name(node.relation)
        of_index = node.kind == enums.ReindexObjectType.REINDEX_OBJECT_INDEX
        table = context.schema.table_of_index(name) if of_index else name
        if table and context.is_new(table):
            return
        of_name, tables = f" of {name}", (str(table) if table else f"the table of {name}",)
    yield Violation(
        REINDEX_NOT_CONCURRENT,
        f"REINDEX{of_name} blocks every write to {tables[0]}, and every read that would use the index",
        (OWN_MIGRATION, f"{_with_concurrently(statement)};"),
        tables,
    )


def _with_concurrently(statement: ParsedStatement) -> str:
    """Return the source text of a statement with CONCURRENTLY inserted."""
    text, replaced = _VERBS.subn(r"\1 CONCURRENTLY", statement.text, count=1)
    return text if replaced else f"{to_sql(statement.node)}  -- with CONCURRENTLY"
