"""What CREATE TABLE and ALTER TABLE do to a table that lint knows."""

from __future__ import annotations

from typing import Any

from pglast import ast, enums

from migrations.lint.objects import Column, Constraint, Index, Table
from migrations.lint.parser import columns_of, relation_name
from migrations.lint.types import SERIAL, base_name, sql_type

_AT = enums.AlterTableType
_KIND = enums.ConstrType


def define(table: Table, elements: Any, transaction: int | None) -> None:
    """Add the columns and constraints of a CREATE TABLE, whose constraints are valid: it has no row."""
    for element in elements or ():
        match element:
            case ast.ColumnDef(colname=str()):
                add_column(table, element, transaction)
            case ast.Constraint():
                add_constraint(table, element, transaction)
    for constraint in table.constraints.values():
        constraint.valid = True


def alter(table: Table, command: Any, transaction: int | None) -> None:  # noqa: C901 - a table of statements, as patterns
    """Change a table as one command of an ALTER TABLE does."""
    match command.subtype:
        case _AT.AT_AddColumn:
            if not (command.missing_ok and command.def_.colname in table.columns):
                add_column(table, command.def_, transaction)
        case _AT.AT_DropColumn:
            _drop_column(table, command.name)
        case _AT.AT_AlterColumnType:
            table.column(command.name).type = sql_type(command.def_.typeName)
        case _AT.AT_SetNotNull | _AT.AT_DropNotNull:
            table.column(command.name).not_null = command.subtype == _AT.AT_SetNotNull
        case _AT.AT_ColumnDefault | _AT.AT_AddIdentity if command.name:
            table.column(command.name).has_default = command.def_ is not None
        case _AT.AT_DropIdentity if command.name:
            table.column(command.name).has_default = False
        case _AT.AT_AddConstraint:
            add_constraint(table, command.def_, transaction)
        case _AT.AT_DropConstraint:
            table.constraints.pop(command.name, None)
            table.indexes.pop(command.name, None)
        case _AT.AT_ValidateConstraint if command.name in table.constraints:
            table.constraints[command.name].valid = True


def add_column(table: Table, definition: Any, transaction: int | None) -> None:
    """Add a column with the constraints of its definition."""
    name, kind = definition.colname, definition.typeName
    column = Column(sql_type(kind) if kind else None)
    table.columns[name] = column
    if kind and base_name(kind) in SERIAL:
        column.not_null = column.has_default = True
    for constraint in definition.constraints or ():
        match constraint.contype:
            case _KIND.CONSTR_NOTNULL:
                column.not_null = True
            case _KIND.CONSTR_DEFAULT | _KIND.CONSTR_GENERATED:
                column.has_default = True
            case _KIND.CONSTR_IDENTITY:
                column.not_null = column.has_default = True
            case _:
                add_constraint(table, constraint, transaction, column=name)


def add_constraint(table: Table, constraint: Any, transaction: int | None, *, column: str | None = None) -> None:
    """Add a constraint.

    Args:
        table: The table.
        constraint: Its parse tree.
        transaction: Number of the transaction that adds it; None where the statement commits by itself.
        column: The column in whose definition it stands; None where it stands by itself.
    """
    keys = (column,) if column else tuple(key.sval for key in constraint.keys or ())
    added = Constraint(transaction, not constraint.skip_validation)
    match constraint.contype:
        case _KIND.CONSTR_CHECK:
            added.expression, added.columns = constraint.raw_expr, frozenset(columns_of(constraint.raw_expr))
            added.not_null = columns_not_null(constraint.raw_expr)
            keys = tuple(sorted(added.columns)) if len(added.columns) == 1 else ()
            suffix = "check"
        case _KIND.CONSTR_NOTNULL:
            added.not_null, suffix = frozenset(keys), "not_null"
        case _KIND.CONSTR_FOREIGN:
            keys = keys or tuple(key.sval for key in constraint.fk_attrs or ())
            added.columns, added.references = frozenset(keys), relation_name(constraint.pktable)
            suffix = "fkey"
        case _KIND.CONSTR_UNIQUE | _KIND.CONSTR_PRIMARY | _KIND.CONSTR_EXCLUSION:
            _add_index_constraint(table, constraint, keys)
            return
        case _:
            return
    table.constraints[constraint.conname or _generated(table, keys, suffix, table.constraints)] = added


def _add_index_constraint(table: Table, constraint: Any, keys: tuple[str, ...]) -> None:
    primary = constraint.contype == _KIND.CONSTR_PRIMARY
    if constraint.indexname:
        index = table.indexes.pop(constraint.indexname, None)
        keys = index.keys if index else ()
    name = constraint.conname or constraint.indexname
    name = name or _generated(table, () if primary else keys, "pkey" if primary else "key", table.indexes)
    exclusion = constraint.contype == _KIND.CONSTR_EXCLUSION
    columns = frozenset(keys) | columns_of(constraint.exclusions)
    table.indexes[name] = Index(keys, exclusion and constraint.where_clause is not None, columns, not exclusion)
    if primary:
        for key in keys:
            table.column(key).not_null = True


def _drop_column(table: Table, name: str) -> None:
    table.columns.pop(name, None)
    for constraint in [key for key, known in table.constraints.items() if name in known.columns | known.not_null]:
        del table.constraints[constraint]
    for index in [key for key, known in table.indexes.items() if name in known.columns]:
        del table.indexes[index]


def _generated(table: Table, columns: tuple[str, ...], suffix: str, taken: Any) -> str:
    """Return the name that PostgreSQL's ChooseConstraintName gives to an index or a constraint.

    PostgreSQL also cuts names to 63 bytes, which this does not.
    """
    name = base = "_".join((table.name.name, *columns, suffix))
    number = 0
    while name in taken:
        number += 1
        name = f"{base}{number}"
    return name


def columns_not_null(expression: Any) -> frozenset[str]:
    """Return the columns that an expression requires not to be NULL."""
    match expression:
        case ast.NullTest(
            nulltesttype=enums.NullTestType.IS_NOT_NULL, arg=ast.ColumnRef(fields=(ast.String(sval=str(name)),))
        ):
            return frozenset((name,))
        case ast.BoolExpr(boolop=enums.BoolExprType.AND_EXPR, args=(_, *_) as parts):
            return frozenset[str]().union(*map(columns_not_null, parts))
        case _:
            return frozenset()
