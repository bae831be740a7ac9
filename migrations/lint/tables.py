"""Statements that keep others from a whole table."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import identifier, relation
from migrations.lint.rule import ALTER_TABLE, LOCKING, Hit, Level, Lock, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.parser import Name, ParsedStatement
    from migrations.lint.schema import Schema, StatementContext

TABLE_REWRITE = Rule(
    "table-rewrite",
    Level.ERROR,
    "CLUSTER, VACUUM FULL, SET LOGGED, SET TABLESPACE and the like block reads and writes while the table is copied.",
    LOCKING,
    Lock.ACCESS_EXCLUSIVE,
    ("prefer-repack",),
    details="The whole table and its indexes are rewritten.",
    safe=("-- none in SQL: pg_repack or pg_squeeze copies a table online; else a maintenance window",),
)
TRUNCATE = Rule(
    "truncate",
    Level.ERROR,
    "TRUNCATE blocks reads and writes, waits behind every query on the table, and its rows are gone.",
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
    "LOCK TABLE keeps others from the table until the transaction ends.",
    "https://www.postgresql.org/docs/current/sql-lock.html",
    Lock.ACCESS_EXCLUSIVE,
    details="The lock is the mode that the statement names; modes that let reads and writes pass are not reported.",
    safe=("-- without it: each statement takes the lock that it needs; keep transactions short",),
)
TRIGGER = Rule(
    "trigger",
    Level.WARNING,
    "CREATE TRIGGER blocks writes until the transaction ends, and every later write pays for the trigger.",
    LOCKING,
    Lock.SHARE_ROW_EXCLUSIVE,
    details="The lock is short when the file contains nothing else.",
    safe=("-- in a migration of its own; there is no other way",),
)
DISABLE_TRIGGER = Rule(
    "disable-trigger",
    Level.WARNING,
    "DISABLE TRIGGER switches triggers off for everybody, with ALL the foreign keys too, and blocks writes meanwhile.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-DESC-DISABLE-ENABLE-TRIGGER",
    Lock.SHARE_ROW_EXCLUSIVE,
    details="Rows that are written while foreign keys are off are never checked.",
    safe=("SET LOCAL session_replication_role = replica;  -- for this transaction only, where the role may",),
)
PARTITION = Rule(
    "partition",
    Level.WARNING,
    "A partition that is created or detached in place blocks reads and writes of the whole partitioned table.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-ATTACH-PARTITION",
    Lock.ACCESS_EXCLUSIVE,
    ("require-concurrent-partition-detach",),
    details=(
        "ATTACH PARTITION takes SHARE UPDATE EXCLUSIVE, which lets reads and writes pass; with a CHECK "
        "on the new partition that implies its bounds, it needs no scan. DETACH … CONCURRENTLY exists "
        "from PostgreSQL 14 on."
    ),
    safe=(
        "CREATE TABLE logs_2025 (LIKE logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS);",
        "ALTER TABLE logs ATTACH PARTITION logs_2025 FOR VALUES FROM (2025) TO (2026);",
        "-- or, with -- migrate:up transaction:false",
        "ALTER TABLE logs DETACH PARTITION logs_2024 CONCURRENTLY;",
    ),
)
RULES = (TABLE_REWRITE, TRUNCATE, LOCK_TABLE, TRIGGER, DISABLE_TRIGGER, PARTITION)

_AT = enums.AlterTableType
_COPIES = {
    _AT.AT_SetLogged: "SET LOGGED",
    _AT.AT_SetUnLogged: "SET UNLOGGED",
    _AT.AT_SetTableSpace: "SET TABLESPACE",
    _AT.AT_SetAccessMethod: "SET ACCESS METHOD",
}
_DISABLES = {_AT.AT_DisableTrig, _AT.AT_DisableTrigAll, _AT.AT_DisableTrigUser}
_MODES = {  # LockStmt.mode counts the modes from the weakest on, see lockdefs.h
    5: Lock.SHARE,
    6: Lock.SHARE_ROW_EXCLUSIVE,
    7: Lock.EXCLUSIVE,
    8: Lock.ACCESS_EXCLUSIVE,
}


def check(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    """Give the tables that a statement keeps to itself."""
    node = statement.node
    match node:
        case ast.ClusterStmt() | ast.VacuumStmt(is_vacuumcmd=True):
            yield from _copied(node, place, catalog)
        case ast.TruncateStmt():
            for table in _old(node.relations, place, catalog):
                yield Hit(
                    TRUNCATE,
                    f"TRUNCATE blocks reads and writes of {table}, and its rows are gone",
                    _delete(table),
                    (table,),
                )
        case ast.LockStmt() if node.mode in _MODES:
            yield from _locked(node, place, catalog)
        case ast.CreateTrigStmt():
            for table in _old([node.relation], place, catalog):
                safe = ("-- in a migration of its own, so that the lock is short; there is no other way",)
                yield Hit(
                    TRIGGER, f"CREATE TRIGGER blocks writes to {table} until the transaction ends", safe, (table,)
                )
        case ast.CreateStmt(partbound=ast.PartitionBoundSpec()):
            yield from _partition(node, place, catalog)
        case ast.AlterTableStmt():
            name = relation(node.relation)
            if not catalog.is_new(name, place.file):
                yield from chain.from_iterable(_altered(name, command) for command in node.cmds or ())


def _old(relations: Any, place: StatementContext, catalog: Schema) -> list[str]:
    return [str(name) for name in map(relation, relations or ()) if not catalog.is_new(name, place.file)]


def _locked(node: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    mode = _MODES[node.mode]
    safe = ("-- without it: each statement takes the lock that it needs; keep transactions short",)
    for table in _old(node.relations, place, catalog):
        yield Hit(LOCK_TABLE, f"LOCK TABLE blocks {mode.blocks} of {table} until the end", safe, (table,), mode)


def _delete(table: str) -> tuple[str, ...]:
    return (
        "-- if the rows must go: in batches, each in a transaction of its own, from a table that nobody needs",
        f"DELETE FROM {table} WHERE ...;",  # noqa: S608 - shown, never run
    )


def _copied(node: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    if isinstance(node, ast.ClusterStmt):
        verb, relations = "CLUSTER", [node.relation] if node.relation else []
    elif any(option.defname == "full" and _is_on(option) for option in node.options or ()):
        verb, relations = "VACUUM FULL", [entry.relation for entry in node.rels or ()]
    else:
        return
    tables = _old(relations, place, catalog)
    if tables or not relations:
        yield _copy_hit(verb, ", ".join(tables) or "every table", tuple(tables) or ("every table",))


def _is_on(option: Any) -> bool:
    return option.arg is None or getattr(option.arg, "sval", "true") in {"true", "on", "1"}


def _copy_hit(verb: str, tables: str, locks: tuple[str, ...]) -> Hit:
    safe = (f"-- none in SQL: pg_repack or pg_squeeze copies {tables} online; else a maintenance window",)
    return Hit(TABLE_REWRITE, f"{verb} blocks reads and writes of {tables} while it is copied", safe, locks)


def _altered(table: Name, command: Any) -> Iterator[Hit]:
    if command.subtype in _COPIES:
        yield _copy_hit(_COPIES[command.subtype], str(table), (str(table),))
    elif command.subtype in _DISABLES:
        which = f" {identifier(command.name)}" if command.name else "s"
        yield Hit(
            DISABLE_TRIGGER,
            f"trigger{which} of {table} is off for everybody, and writes are blocked until the transaction ends",
            ("SET LOCAL session_replication_role = replica;  -- for this transaction only, where the role may",),
            (str(table),),
        )
    elif command.subtype == _AT.AT_DetachPartition and not command.def_.concurrent:
        partition = relation(command.def_.name)
        yield Hit(
            PARTITION,
            f"DETACH PARTITION blocks reads and writes of {table}",
            (
                "-- in a migration of its own: -- migrate:up transaction:false (PostgreSQL 14 or newer)",
                f"ALTER TABLE {table} DETACH PARTITION {partition} CONCURRENTLY;",
            ),
            (str(table),),
        )


def _partition(node: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    for parent in _old(node.inhRelations, place, catalog):
        partition = relation(node.relation)
        yield Hit(
            PARTITION,
            f"CREATE TABLE ... PARTITION OF blocks reads and writes of {parent}",
            (
                f"CREATE TABLE {partition} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS);",
                f"ALTER TABLE {parent} ATTACH PARTITION {partition} ...;  -- lets reads and writes pass",
            ),
            (parent,),
        )
