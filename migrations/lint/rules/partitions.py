"""Partitions that are created, attached and detached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, columns_of, quote_ident, relation_name, to_sql, walk
from migrations.lint.rule import ALTER_TABLE, Level, Lock, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.objects import Table
    from migrations.lint.parser import ParsedStatement

PARTITION = Rule(
    "partition",
    Level.ADVICE,
    "Creating or detaching a partition in place blocks reads and writes of the whole partitioned table.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-ATTACH-PARTITION",
    Lock.ACCESS_EXCLUSIVE,
    ("require-concurrent-partition-detach",),
    details=(
        "The lock is short, as those of short-lock are. ATTACH PARTITION takes SHARE UPDATE EXCLUSIVE, which lets "
        "reads and writes pass. DETACH … CONCURRENTLY exists from PostgreSQL 14 on."
    ),
    safe=(
        "CREATE TABLE logs_2025 (LIKE logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS);",
        "ALTER TABLE logs ATTACH PARTITION logs_2025 FOR VALUES FROM (2025) TO (2026);",
        "-- or, with -- migrate:up transaction:false",
        "ALTER TABLE logs DETACH PARTITION logs_2024 CONCURRENTLY;",
    ),
)
PARTITION_SCAN = Rule(
    "partition-scan",
    Level.ERROR,
    "A new partition blocks reads and writes of the partition, or of the default one, while every row is checked.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-ATTACH-PARTITION",
    Lock.ACCESS_EXCLUSIVE,
    details=(
        "ATTACH PARTITION checks that the rows of the partition are within its bounds, and that the default partition "
        "has none that belong into it; CREATE TABLE … PARTITION OF does the latter. A valid CHECK that proves it is "
        "enough: it compares the columns of the key with the constants of the bounds, and the columns are NOT NULL. A "
        "partition that the same file creates has no rows to check."
    ),
    safe=(
        "ALTER TABLE logs_2025 ADD CONSTRAINT within CHECK (at >= '2025-01-01' AND at < '2026-01-01') NOT VALID;",
        "-- in a later migration:",
        "ALTER TABLE logs_2025 VALIDATE CONSTRAINT within;",
        "-- and after that one:",
        "ALTER TABLE logs ATTACH PARTITION logs_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');",
    ),
)
RULES = (PARTITION, PARTITION_SCAN)

_AT = enums.AlterTableType


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield what a statement does to an existing partitioned table and to its partitions."""
    node = statement.node
    match node:
        case ast.CreateStmt(partbound=ast.PartitionBoundSpec() as bound):
            for parent in map(relation_name, node.inhRelations or ()):
                if not context.is_new(parent):
                    yield _create_violation(parent, relation_name(node.relation))
                    yield from _check_default(parent, relation_name(node.relation), bound, context)
        case ast.AlterTableStmt() if not context.is_new(relation_name(node.relation)):
            for command in node.cmds or ():
                if command.subtype == _AT.AT_DetachPartition and not command.def_.concurrent:
                    yield _detach_violation(relation_name(node.relation), relation_name(command.def_.name))
                elif command.subtype == _AT.AT_AttachPartition:
                    yield from _check_attach(relation_name(node.relation), command.def_, context)


def _check_attach(parent: Name, command: Any, context: StatementContext) -> Iterator[Violation]:
    partition = relation_name(command.name)
    known = context.schema.table(partition)
    if not context.is_new(partition) or (known and known.filled):
        parent_known = context.schema.table(parent)
        if not _is_proven(known, parent_known, command.bound, context):
            yield _scan_violation(partition, partition, parent, command.bound)
    yield from _check_default(parent, partition, command.bound, context)


def _check_default(parent: Name, partition: Name, bound: Any, context: StatementContext) -> Iterator[Violation]:
    known = context.schema.table(parent)
    default = known.default_partition if known else None
    if default is None or bound.is_default or context.is_new(default):
        return
    if not _is_proven(context.schema.table(default), known, bound, context):
        yield _scan_violation(default, partition, parent, bound)


def _is_proven(partition: Table | None, parent: Table | None, bound: Any, context: StatementContext) -> bool:
    """Return whether a valid CHECK compares every column of the key with the constants of the bounds.

    How it compares them is not judged. PostgreSQL refuses the statement if a row is outside of the bounds.

    Source: `ConstraintImpliedByRelConstraint` of PostgreSQL (tablecmds.c), which uses valid constraints only
    """
    if partition is None or bound.is_default:
        return False
    key = parent.partition_key if parent else None
    bounds = (bound.listdatums, bound.lowerdatums, bound.upperdatums)
    constants = _constants(bounds)
    takes_null = any(isinstance(part, ast.A_Const) and part.isnull for part in walk(bounds))
    for constraint in partition.constraints.values():
        if not (constraint.valid and constraint.expression is not None):
            continue
        columns = columns_of(constraint.expression)
        if not (constants <= _constants(constraint.expression) and (key is None or set(key) <= columns)):
            continue
        if takes_null or all(context.proves_not_null(partition.name, column) for column in key or columns):
            return True
    return False


def _constants(node: Any) -> set[str]:
    return {to_sql(part) for part in walk(node) if isinstance(part, ast.A_Const) and not part.isnull}


def _scan_violation(scanned: Name, partition: Name, parent: Name, bound: Any) -> Violation:
    named = quote_ident(f"{scanned.name}_bounds")
    what = "within its bounds" if scanned == partition else f"outside the bounds of {partition}"
    return Violation(
        PARTITION_SCAN,
        f"reads and writes of {scanned} are blocked while every row of it is checked to be {what}",
        (
            f"ALTER TABLE {scanned} ADD CONSTRAINT {named} CHECK (...) NOT VALID;  -- that its rows are {what}",
            "-- in a later migration, so in a transaction of its own:",
            f"ALTER TABLE {scanned} VALIDATE CONSTRAINT {named};",
            "-- after that one, and now without a scan:",
            f"ALTER TABLE {parent} ATTACH PARTITION {partition} {to_sql(bound)};",
        ),
        (str(scanned),),
    )


def _detach_violation(table: Name, partition: Name) -> Violation:
    return Violation(
        PARTITION,
        f"DETACH PARTITION blocks reads and writes of {table}",
        (
            "-- in a migration of its own: -- migrate:up transaction:false (PostgreSQL 14 or newer)",
            f"ALTER TABLE {table} DETACH PARTITION {partition} CONCURRENTLY;",
        ),
        (str(table),),
    )


def _create_violation(parent: Name, partition: Name) -> Violation:
    return Violation(
        PARTITION,
        f"CREATE TABLE ... PARTITION OF blocks reads and writes of {parent}",
        (
            f"CREATE TABLE {partition} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS);",
            f"ALTER TABLE {parent} ATTACH PARTITION {partition} ...;  -- lets reads and writes pass",
        ),
        (str(parent),),
    )
