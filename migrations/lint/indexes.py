"""Indexes that are built, rebuilt or dropped while nobody may write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, dotted, relation, sql_of
from migrations.lint.rule import LOCKING, Hit, Level, Lock, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.parser import ParsedStatement
    from migrations.lint.schema import Schema, StatementContext

_VERBS = re.compile(
    r"(create\s+(?:unique\s+)?index|drop\s+index|reindex\s+(?:\([^)]*\)\s*)?(?:index|table|schema|database|system)"
    r"|refresh\s+materialized\s+view)(?=\s)",
    re.IGNORECASE,
)
OUTSIDE = "-- in a migration of its own: -- migrate:up transaction:false"

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
    Level.ERROR,
    "DROP INDEX without CONCURRENTLY blocks reads and writes of the table, and waits behind every query on it.",
    "https://www.postgresql.org/docs/current/sql-dropindex.html",
    Lock.ACCESS_EXCLUSIVE,
    ("require-concurrent-index-deletion", "remove_index"),
    details=(
        "The drop itself takes no time, but it waits behind every query that runs on the table, and "
        "every later query waits behind it."
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

_WHOLE = {
    enums.ReindexObjectType.REINDEX_OBJECT_SCHEMA,
    enums.ReindexObjectType.REINDEX_OBJECT_SYSTEM,
    enums.ReindexObjectType.REINDEX_OBJECT_DATABASE,
}


def check(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    """Give what a statement does to indexes that are in use."""
    node = statement.node
    match node:
        case ast.IndexStmt(concurrent=False, relation=ast.RangeVar(inh=True)):  # ON ONLY: empty, of a partitioned table
            yield from _create(statement, place, catalog)
        case ast.DropStmt(removeType=enums.ObjectType.OBJECT_INDEX, concurrent=False):
            yield from _drop(statement, place, catalog)
        case ast.ReindexStmt() if not concurrently(node):
            yield from _reindex(statement, place, catalog)
        case ast.RefreshMatViewStmt(concurrent=False) if not catalog.is_new(relation(node.relation), place.file):
            view = str(relation(node.relation))
            yield Hit(
                REFRESH_NOT_CONCURRENT,
                f"REFRESH blocks every read of {view} until its query is done",
                (f"{_with_concurrently(statement)};  -- {view} needs a UNIQUE index on plain columns for it",),
                (view,),
            )


def concurrently(node: Any) -> bool:
    """Whether a statement says CONCURRENTLY."""
    if isinstance(node, ast.ReindexStmt):
        return any(option.defname == "concurrently" for option in node.params or ())
    if isinstance(node, ast.AlterTableStmt):
        return any(isinstance(c.def_, ast.PartitionCmd) and c.def_.concurrent for c in node.cmds or ())
    return isinstance(node, ast.IndexStmt | ast.DropStmt) and bool(node.concurrent)


def _create(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    node = statement.node
    name = relation(node.relation)
    if catalog.is_new(name, place.file):
        return
    known = catalog.table(name)
    if known and known.partitioned:
        index = node.idxname or f"{name.name}_idx"
        safe: tuple[str, ...] = (
            f"CREATE INDEX {index} ON ONLY {name} ...;  -- empty: takes no time",
            f"-- then for each partition p of {name}, outside a transaction:",
            f"CREATE INDEX CONCURRENTLY {index}_p ON p ...;",
            f"ALTER INDEX {index} ATTACH PARTITION {index}_p;",
        )
    else:
        safe = (OUTSIDE, f"{_with_concurrently(statement)};")
    yield Hit(INDEX_NOT_CONCURRENT, f"CREATE INDEX blocks every write to {name} until it is built", safe, (str(name),))


def _drop(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    old: list[Name] = []
    tables: list[str] = []
    for index in map(dotted, statement.node.objects):
        table = catalog.table_of_index(index)
        if table is None or not catalog.is_new(table, place.file):
            old.append(index)
            tables.append(str(table) if table else f"the table of {index}")
    if old:
        ending = "IF EXISTS " if statement.node.missing_ok else ""
        yield Hit(
            DROP_INDEX_NOT_CONCURRENT,
            f"DROP INDEX blocks reads and writes of {', '.join(tables)}, and waits behind every query on it",
            (OUTSIDE, *(f"DROP INDEX CONCURRENTLY {ending}{index};" for index in old)),
            tuple(tables),
        )


def _reindex(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    node = statement.node
    if node.kind in _WHOLE or node.relation is None:
        named, tables = "", ("every table of it",)
    else:
        name = relation(node.relation)
        of_index = node.kind == enums.ReindexObjectType.REINDEX_OBJECT_INDEX
        table = catalog.table_of_index(name) if of_index else name
        if table and catalog.is_new(table, place.file):
            return
        named, tables = f" of {name}", (str(table) if table else f"the table of {name}",)
    yield Hit(
        REINDEX_NOT_CONCURRENT,
        f"REINDEX{named} blocks every write to {tables[0]}, and every read that would use the index",
        (OUTSIDE, f"{_with_concurrently(statement)};"),
        tables,
    )


def _with_concurrently(statement: ParsedStatement) -> str:
    """Write a statement with CONCURRENTLY, as its author wrote the rest."""
    text, found = _VERBS.subn(r"\1 CONCURRENTLY", statement.text, count=1)
    if found:
        return text
    node = statement.node
    return f"{sql_of(node)}  -- with CONCURRENTLY"
