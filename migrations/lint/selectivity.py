"""Whether the WHERE of an UPDATE or DELETE names few rows, or may be true for a large part of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import columns_of, walk

if TYPE_CHECKING:
    from migrations.lint.objects import Table

_KIND = enums.A_Expr_Kind
_BOOL = enums.BoolExprType
_RANGES = {_KIND.AEXPR_BETWEEN, _KIND.AEXPR_BETWEEN_SYM}
_KEY_NAMES = frozenset(("id", "uuid", "ctid"))
"""Columns that count as keys even where no file shows a unique index."""


def is_bulk(where: Any, table: Table | None) -> bool:  # noqa: PLR0911 - a table of statements, as patterns
    """Return whether a WHERE may be true for a large part of the rows.

    A condition counts as true for few rows if it compares a column with values by `=` or IN, a key with a range, or
    asks a subquery that is small itself. IS NULL, a truth value, an inequality or a join may be true for any number.

    Args:
        where: Parse tree of the condition; None where there is none.
        table: What is known of the table.
    """
    match where:
        case None:
            return True
        case ast.BoolExpr(boolop=_BOOL.AND_EXPR):
            return all(is_bulk(part, table) for part in where.args or ())
        case ast.BoolExpr(boolop=_BOOL.OR_EXPR):
            return any(is_bulk(part, table) for part in where.args or ())
        case ast.A_Expr():
            return not _selects_few(where, table)
        case ast.SubLink(subLinkType=enums.SubLinkType.ANY_SUBLINK) if not where.operName:
            return not _is_small(where.subselect)
        case ast.CurrentOfExpr():
            return False
        case _:  # IS NULL, NOT, a boolean column, EXISTS, a constant
            return True


def _selects_few(expression: Any, table: Table | None) -> bool:
    left, right, kind = expression.lexpr, expression.rexpr, expression.kind
    operator = expression.name[-1].sval if expression.name else ""
    if kind in _RANGES or operator in {"<", "<=", ">", ">="}:
        return any(_is_key(side, table) for side in (left, right))
    if isinstance(right, ast.SubLink) and right.subLinkType == enums.SubLinkType.ARRAY_SUBLINK:
        return kind == _KIND.AEXPR_OP_ANY and operator == "=" and _is_small(right.subselect)
    if kind in {_KIND.AEXPR_OP, _KIND.AEXPR_IN, _KIND.AEXPR_OP_ANY} and operator == "=":
        if any(_is_truth_value(side) for side in (left, right)):
            return False
        if not any(columns_of(side) for side in (left, right)):
            return False  # `1 = 1`
        return any(_is_value(side) for side in (left, right))
    return False


def _is_key(side: Any, table: Table | None) -> bool:
    match side:
        case ast.ColumnRef(fields=(*_, ast.String(sval=str(name)))):
            return name in _KEY_NAMES or (table is not None and table.is_unique(name))
        case _:
            return False


def _is_value(side: Any) -> bool:
    """Return whether a side of `=` is one value or a list of them: constants, parameters, or a query for one row."""
    return not any(
        isinstance(part, ast.ColumnRef) for part in walk(side) if not isinstance(side, ast.SubLink)
    ) and not (isinstance(side, ast.SubLink) and side.subLinkType != enums.SubLinkType.EXPR_SUBLINK)


def _is_truth_value(side: Any) -> bool:
    while isinstance(side, ast.TypeCast):
        side = side.arg
    return isinstance(side, ast.A_Const) and isinstance(side.val, ast.Boolean)


def _is_small(query: Any) -> bool:
    """Return whether a subquery has a LIMIT or a WHERE that is true for few rows, or is a list of values."""
    if query.limitCount is not None or query.valuesLists:
        return True
    return query.whereClause is not None and not is_bulk(query.whereClause, None)
