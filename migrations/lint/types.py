"""Changes of a column's type that need no rewrite of the table.

Source: https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES ("binary coercible")
"""

from __future__ import annotations

from typing import Any

from pglast import ast

_TEXT = frozenset(("text", "varchar"))
_TIMESTAMPS = {"timestamp", "timestamptz"}
_WIDENABLE = frozenset(("timestamp", "timestamptz", "time", "timetz", "varbit"))  # a higher precision rewrites no row
SERIAL = {
    "smallserial": "smallint",
    "serial2": "smallint",
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
}


def base_name(type_name: Any) -> str:
    """Return the name of a type without schema and modifiers, as pg_type spells it: `varchar`, `int4`."""
    return str(type_name.names[-1].sval)


def modifiers(type_name: Any) -> tuple[int, ...] | None:
    """Return the numbers of a type: (10,) for `varchar(10)`, () for `varchar`, None where one is not a constant."""
    numbers: list[int] = []
    for modifier in type_name.typmods or ():
        match modifier:
            case ast.A_Const(val=ast.Integer(ival=int(number))):
                numbers.append(number)
            case _:
                return None
    return tuple(numbers)


def keeps_rows(old: Any, new: Any, *, in_utc: bool = False) -> bool:
    """Whether PostgreSQL changes the type without rewriting a row.

    Args:
        old: TypeName of the column.
        new: TypeName that the statement gives it.
        in_utc: Whether the session's time zone is UTC, in which `timestamp` and `timestamptz` store the same value.
    """
    old_limits, new_limits = modifiers(old), modifiers(new)
    if old_limits is None or new_limits is None or bool(old.arrayBounds) != bool(new.arrayBounds):
        return False
    old_name, new_name = base_name(old), base_name(new)
    if (old_name == new_name and old_limits == new_limits) or (old_name, new_name) == ("cidr", "inet"):
        return True
    if {old_name, new_name} == _TIMESTAMPS:
        return in_utc and old_limits == new_limits
    if old_name == new_name == "numeric":
        return _wider_numeric(old_limits, new_limits)
    if {old_name, new_name} <= _TEXT or (old_name == new_name and old_name in _WIDENABLE):
        return not new_limits or bool(old_limits and new_limits[0] >= old_limits[0])
    return False


def _wider_numeric(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether the scale stays the same and the precision does not shrink."""
    if not new:
        return True
    if not old:
        return False
    old_scale, new_scale = (limits[1] if len(limits) > 1 else 0 for limits in (old, new))
    return old_scale == new_scale and new[0] >= old[0]
