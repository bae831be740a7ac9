"""Statements that lock a whole table."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.locks import MODES
from migrations.lint.parser import quote_ident, relation_name
from migrations.lint.rule import ALTER_TABLE, LOCKING, Level, Lock, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import Name, ParsedStatement

TABLE_REWRITE = Rule(
    "table-rewrite",
    Level.ERROR,
    "CLUSTER, VACUUM FULL, SET LOGGED, SET TABLESPACE and the like block reads and writes while the table is copied.",
    LOCKING,
    Lock.ACCESS_EXCLUSIVE,
    ("prefer-repack",),
    details="The whole table and its indexes are rewritten.",
    safe=("-- SQL has no online way: use pg_repack or pg_squeeze, or a maintenance window",),
)
TRUNCATE = Rule(
    "truncate",
    Level.ERROR,
    "TRUNCATE blocks reads and writes, waits behind every query on the table, and removes every row.",
    "https://www.postgresql.org/docs/current/sql-truncate.html",
    Lock.ACCESS_EXCLUSIVE,
    ("ban-truncate-cascade",),
    details=(
        "The statement is fast, but it waits behind every query, and every later query waits behind it. "
        "The rows cannot be restored."
    ),
    safe=(
        "-- if the rows must go: in batches, each in a transaction of its own",
        "DELETE FROM cache WHERE id BETWEEN 1 AND 10000;",
    ),
)
LOCK_TABLE = Rule(
    "lock-table",
    Level.ERROR,
    "LOCK TABLE blocks other sessions until the transaction ends.",
    "https://www.postgresql.org/docs/current/sql-lock.html",
    Lock.ACCESS_EXCLUSIVE,
    details="The lock is the mode that the statement names; modes that let reads and writes pass are not reported.",
    safe=("-- leave it out: each statement takes the lock that it needs; keep transactions short",),
)
DISABLE_TRIGGER = Rule(
    "disable-trigger",
    Level.WARNING,
    "DISABLE TRIGGER turns triggers off in every session (ALL: foreign keys too), and blocks writes meanwhile.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-DESC-DISABLE-ENABLE-TRIGGER",
    Lock.SHARE_ROW_EXCLUSIVE,
    details="Rows that are written while foreign keys are off are never checked.",
    safe=("SET LOCAL session_replication_role = replica;  -- this transaction only; needs the privilege for it",),
)
RULES = (TABLE_REWRITE, TRUNCATE, LOCK_TABLE, DISABLE_TRIGGER)

_AT = enums.AlterTableType
_COPIES = {
    _AT.AT_SetLogged: "SET LOGGED",
    _AT.AT_SetUnLogged: "SET UNLOGGED",
    _AT.AT_SetTableSpace: "SET TABLESPACE",
    _AT.AT_SetAccessMethod: "SET ACCESS METHOD",
}
_DISABLES = {_AT.AT_DisableTrig, _AT.AT_DisableTrigAll, _AT.AT_DisableTrigUser}


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield the existing tables that a statement locks."""
    node = statement.node
    match node:
        case ast.ClusterStmt() | ast.VacuumStmt(is_vacuumcmd=True):
            yield from _check_copy(node, context)
        case ast.TruncateStmt():
            for table in _existing(node.relations, context):
                yield Violation(
                    TRUNCATE,
                    f"TRUNCATE blocks reads and writes of {table}, and removes every row",
                    _delete_in_batches(table),
                    (table,),
                )
        case ast.LockStmt() if node.mode in MODES:
            yield from _check_lock(node, context)
        case ast.AlterTableStmt():
            name = relation_name(node.relation)
            if not context.is_new(name):
                yield from chain.from_iterable(_check_command(name, command) for command in node.cmds or ())


def _existing(relations: Any, context: StatementContext) -> list[str]:
    return [str(name) for name in map(relation_name, relations or ()) if not context.is_new(name)]


def _check_lock(node: Any, context: StatementContext) -> Iterator[Violation]:
    mode = MODES[node.mode]
    safe = ("-- leave it out: each statement takes the lock that it needs; keep transactions short",)
    for table in _existing(node.relations, context):
        yield Violation(
            LOCK_TABLE, f"LOCK TABLE blocks {mode.blocks} of {table} until the transaction ends", safe, (table,), mode
        )


def _delete_in_batches(table: str) -> tuple[str, ...]:
    return (
        "-- if the rows must go: delete them in batches, each in a transaction of its own",
        f"DELETE FROM {table} WHERE ...;",  # noqa: S608 - shown, never run
    )


def _check_copy(node: Any, context: StatementContext) -> Iterator[Violation]:
    if isinstance(node, ast.ClusterStmt):
        verb, relations = "CLUSTER", [node.relation] if node.relation else []
    elif any(option.defname == "full" and _is_on(option) for option in node.options or ()):
        verb, relations = "VACUUM FULL", [entry.relation for entry in node.rels or ()]
    else:
        return
    tables = _existing(relations, context)
    if tables or not relations:
        yield _rewrite_violation(verb, ", ".join(tables) or "every table", tuple(tables) or ("every table",))


def _is_on(option: Any) -> bool:
    return option.arg is None or getattr(option.arg, "sval", "true") in {"true", "on", "1"}


def _rewrite_violation(verb: str, tables: str, locks: tuple[str, ...]) -> Violation:
    safe = (f"-- SQL has no online way: use pg_repack or pg_squeeze for {tables}, or a maintenance window",)
    return Violation(TABLE_REWRITE, f"{verb} blocks reads and writes of {tables} while it is copied", safe, locks)


def _check_command(table: Name, command: Any) -> Iterator[Violation]:
    if command.subtype in _COPIES:
        yield _rewrite_violation(_COPIES[command.subtype], str(table), (str(table),))
    elif command.subtype in _DISABLES:
        triggers = (
            f"trigger {quote_ident(command.name)} of {table} is" if command.name else f"the triggers of {table} are"
        )
        yield Violation(
            DISABLE_TRIGGER,
            f"{triggers} off in every session, and writes are blocked until the transaction ends",
            ("SET LOCAL session_replication_role = replica;  -- this transaction only; needs the privilege for it",),
            (str(table),),
        )
