"""The locks that a statement takes on tables and keeps until its transaction ends, beside the work that it does.

Only modes are listed that block reads or writes. Source: the pages of the statements in PostgreSQL's documentation and
https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES; test_lint_claims.py compares them with
pg_locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, qualified_name, relation_name
from migrations.lint.rule import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.schema import Schema

_AT = enums.AlterTableType
_KIND = enums.ConstrType
_OBJECT = enums.ObjectType
# These take SHARE UPDATE EXCLUSIVE, which lets reads and writes pass. Source: PostgreSQL's AlterTableGetLockLevel
# (tablecmds.c).
_WEAK = {
    _AT.AT_ValidateConstraint,
    _AT.AT_SetStatistics,
    _AT.AT_SetOptions,
    _AT.AT_ResetOptions,
    _AT.AT_SetRelOptions,
    _AT.AT_ResetRelOptions,
    _AT.AT_ClusterOn,
    _AT.AT_DropCluster,
    _AT.AT_AttachPartition,
}
_TRIGGERS = {
    _AT.AT_EnableTrig,
    _AT.AT_EnableAlwaysTrig,
    _AT.AT_EnableReplicaTrig,
    _AT.AT_EnableTrigAll,
    _AT.AT_EnableTrigUser,
    _AT.AT_DisableTrig,
    _AT.AT_DisableTrigAll,
    _AT.AT_DisableTrigUser,
}
_OF_A_TABLE = {_OBJECT.OBJECT_TRIGGER, _OBJECT.OBJECT_POLICY, _OBJECT.OBJECT_RULE}
_RELATIONS = {_OBJECT.OBJECT_TABLE, _OBJECT.OBJECT_VIEW, _OBJECT.OBJECT_MATVIEW}
# LockStmt.mode numbers the modes from the weakest, 1, to the strongest, 8 (PostgreSQL's lockdefs.h). Those below 5 let
# reads and writes pass.
MODES = {
    5: Lock.SHARE,
    6: Lock.SHARE_ROW_EXCLUSIVE,
    7: Lock.EXCLUSIVE,
    8: Lock.ACCESS_EXCLUSIVE,
}


def locks(node: Any, schema: Schema) -> Iterator[tuple[Name, Lock]]:  # noqa: C901 - a table of statements, as patterns
    """Yield each table that a statement locks against reads or writes, new ones too.

    Args:
        node: Parse tree of the statement.
        schema: The schema before it.
    """
    match node:
        case ast.AlterTableStmt(objtype=_OBJECT.OBJECT_TABLE | _OBJECT.OBJECT_VIEW | _OBJECT.OBJECT_MATVIEW):
            for command in node.cmds or ():
                yield from _locks_of_command(relation_name(node.relation), command, schema)
        case ast.CreateStmt():
            yield from _locks_of_create(node, schema)
        case ast.IndexStmt(concurrent=False):
            if not (node.if_not_exists and node.idxname and schema.table_of_index(Name(None, node.idxname))):
                yield relation_name(node.relation), Lock.SHARE
        case ast.CreateTrigStmt():
            yield relation_name(node.relation), Lock.SHARE_ROW_EXCLUSIVE
        case ast.DropStmt(concurrent=False):
            yield from _locks_of_drop(node, schema)
        case ast.RefreshMatViewStmt():
            yield relation_name(node.relation), Lock.EXCLUSIVE if node.concurrent else Lock.ACCESS_EXCLUSIVE
        case ast.TruncateStmt():
            yield from ((relation_name(relation), Lock.ACCESS_EXCLUSIVE) for relation in node.relations or ())
        case ast.LockStmt() if node.mode in MODES:
            yield from ((relation_name(relation), MODES[node.mode]) for relation in node.relations or ())
        case _:
            yield from _locks_of_definition(node)


def _locks_of_definition(node: Any) -> Iterator[tuple[Name, Lock]]:
    match node:
        case ast.RenameStmt(relation=ast.RangeVar()) if node.renameType in {
            *_RELATIONS,
            *_OF_A_TABLE,
            _OBJECT.OBJECT_COLUMN,
            _OBJECT.OBJECT_TABCONSTRAINT,
        }:
            yield relation_name(node.relation), Lock.ACCESS_EXCLUSIVE
        case ast.AlterObjectSchemaStmt(relation=ast.RangeVar()) if node.objectType in _RELATIONS:
            yield relation_name(node.relation), Lock.ACCESS_EXCLUSIVE
        case (
            ast.RuleStmt(relation=ast.RangeVar() as relation)
            | ast.CreatePolicyStmt(table=ast.RangeVar() as relation)
            | ast.AlterPolicyStmt(table=ast.RangeVar() as relation)
            | ast.ClusterStmt(relation=ast.RangeVar() as relation)
        ):
            yield relation_name(relation), Lock.ACCESS_EXCLUSIVE


def _locks_of_command(table: Name, command: Any, schema: Schema) -> Iterator[tuple[Name, Lock]]:
    match command.subtype:
        case _AT.AT_AttachPartition:
            # The partitioned table takes SHARE UPDATE EXCLUSIVE; the default partition is locked because its constraint
            # changes. Source: ATTACH PARTITION in https://www.postgresql.org/docs/current/sql-altertable.html
            yield relation_name(command.def_.name), Lock.ACCESS_EXCLUSIVE
            known = schema.table(table)
            if known and known.default_partition:
                yield known.default_partition, Lock.ACCESS_EXCLUSIVE
        case kind if kind in _WEAK or (kind == _AT.AT_DetachPartition and command.def_.concurrent):
            return
        case kind if kind in _TRIGGERS:
            yield table, Lock.SHARE_ROW_EXCLUSIVE
        case _AT.AT_AddConstraint if command.def_.contype == _KIND.CONSTR_FOREIGN:
            yield table, Lock.SHARE_ROW_EXCLUSIVE
            yield relation_name(command.def_.pktable), Lock.SHARE_ROW_EXCLUSIVE
        case _AT.AT_AddColumn:
            known = schema.table(table)
            if not (command.missing_ok and known and command.def_.colname in known.columns):
                yield table, Lock.ACCESS_EXCLUSIVE
                yield from _references(command.def_.constraints)
        case _AT.AT_DropConstraint:
            # A foreign key has triggers on the other table too, which are dropped with it.
            yield table, Lock.ACCESS_EXCLUSIVE
            known = schema.table(table)
            constraint = known.constraints.get(command.name) if known else None
            if constraint and constraint.references:
                yield constraint.references, Lock.ACCESS_EXCLUSIVE
        case _:
            yield table, Lock.ACCESS_EXCLUSIVE


def _locks_of_create(node: Any, schema: Schema) -> Iterator[tuple[Name, Lock]]:
    if node.if_not_exists and schema.table(relation_name(node.relation)):
        return
    for element in node.tableElts or ():
        if isinstance(element, ast.ColumnDef):
            yield from _references(element.constraints)
        else:
            yield from _references([element])
    if node.partbound is not None:
        # Unlike ATTACH PARTITION. Source: PARTITION OF in https://www.postgresql.org/docs/current/sql-createtable.html
        for parent in map(relation_name, node.inhRelations or ()):
            yield parent, Lock.ACCESS_EXCLUSIVE
            known = schema.table(parent)
            if known and known.default_partition:
                yield known.default_partition, Lock.ACCESS_EXCLUSIVE


def _references(constraints: Any) -> Iterator[tuple[Name, Lock]]:
    for constraint in constraints or ():
        if isinstance(constraint, ast.Constraint) and constraint.contype == _KIND.CONSTR_FOREIGN:
            yield relation_name(constraint.pktable), Lock.SHARE_ROW_EXCLUSIVE


def _locks_of_drop(node: Any, schema: Schema) -> Iterator[tuple[Name, Lock]]:
    for parts in node.objects or ():
        if node.removeType in _OF_A_TABLE:
            yield qualified_name(parts[:-1]), Lock.ACCESS_EXCLUSIVE
        elif node.removeType in _RELATIONS:
            name = qualified_name(parts)
            if node.missing_ok and schema.is_gone(node.removeType, name):
                continue
            yield name, Lock.ACCESS_EXCLUSIVE
            known = schema.table(name)
            # As with DROP CONSTRAINT, the triggers of its foreign keys go from the other tables.
            for constraint in known.constraints.values() if known else ():
                if constraint.references:
                    yield constraint.references, Lock.ACCESS_EXCLUSIVE
        elif node.removeType == _OBJECT.OBJECT_INDEX and (table := schema.table_of_index(qualified_name(parts))):
            yield table, Lock.ACCESS_EXCLUSIVE
