"""Which changes of a column's type leave its rows as they are.

Source: https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES ("binary coercible")
"""

from __future__ import annotations

from typing import Any

from pglast import ast

_TEXT = frozenset(("text", "varchar"))
_TIMESTAMPS = {"timestamp", "timestamptz"}
_PRECISE = frozenset(("timestamp", "timestamptz", "time", "timetz", "varbit"))  # a higher precision rewrites nothing
SERIAL = {
    "smallserial": "smallint",
    "serial2": "smallint",
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
}


def base(type_name: Any) -> str:
    """Name of a type without schema and modifiers, as the catalog has it: `varchar`, `int4`."""
    return str(type_name.names[-1].sval)


def limits(type_name: Any) -> tuple[int, ...] | None:
    """Give the numbers behind a type; none of `varchar`, (10,) of `varchar(10)`, None where they cannot be read."""
    found: list[int] = []
    for modifier in type_name.typmods or ():
        match modifier:
            case ast.A_Const(val=ast.Integer(ival=int(number))):
                found.append(number)
            case _:
                return None
    return tuple(found)


def keeps_rows(old: Any, new: Any, *, in_utc: bool = False) -> bool:
    """Whether every row may stay as it is when a column of one type gets another.

    Args:
        old: TypeName of the column.
        new: TypeName that it gets.
        in_utc: Whether the session's time zone is UTC, where a timestamp is the same with and without time zone.
    """
    had, now = limits(old), limits(new)
    if had is None or now is None or bool(old.arrayBounds) != bool(new.arrayBounds):
        return False
    before, after = base(old), base(new)
    if (before == after and had == now) or (before, after) == ("cidr", "inet"):
        return True
    if {before, after} == _TIMESTAMPS:
        return in_utc and had == now
    if before == after == "numeric":
        return _wider_numeric(had, now)
    if {before, after} <= _TEXT or (before == after and before in _PRECISE):
        return not now or bool(had and now[0] >= had[0])
    return False


def _wider_numeric(had: tuple[int, ...], now: tuple[int, ...]) -> bool:
    """Whether the scale stays and the precision does not shrink."""
    if not now:
        return True
    if not had:
        return False
    scales = [limit[1] if len(limit) > 1 else 0 for limit in (had, now)]
    return scales[0] == scales[1] and now[0] >= had[0]
