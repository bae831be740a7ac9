"""Types of columns, and the changes of a type that need no rewrite of the table.

Source: https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES ("binary coercible")
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pglast import ast

from migrations.lint.parser import Name, to_sql

_TEXT = frozenset(("text", "varchar"))
_TIMESTAMPS = {"timestamp", "timestamptz"}
_WIDENABLE = frozenset(("timestamp", "timestamptz", "time", "timetz", "varbit"))
"""Types of which a higher precision rewrites no row."""
SERIAL = {
    "smallserial": "smallint",
    "serial2": "smallint",
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
}
_STRINGS = frozenset(("text", "varchar", "bpchar", "citext"))
_WIDER = (
    ("int2", "int4", "int8"),
    ("float4", "float8"),
    ("cidr", "inet"),
    ("json", "jsonb"),
    ("jsonb", "json"),
    ("timestamp", "timestamptz"),
    ("timestamptz", "timestamp"),
)
"""Families of types, from the narrowest on. Drivers read a timestamp with and without a zone alike."""
_INTEGERS = {"smallint": "int2", "integer": "int4", "bigint": "int8"}


@dataclass(frozen=True, slots=True)
class SqlType:
    """The type of a column.

    Attributes:
        name: Its name without modifiers, as pg_type spells it; a serial column has the type of its numbers.
        limits: Its modifiers: (10,) for `varchar(10)`, () for `varchar`, None where one is not a constant.
        array: Whether it is an array of that type.
        node: The TypeName of a statement; None after the type was renamed.
    """

    name: Name
    limits: tuple[int, ...] | None = ()
    array: bool = False
    node: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        if self.node is not None:
            return to_sql(self.node)
        return f"{self.name}[]" if self.array else str(self.name)


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


def sql_type(type_name: Any) -> SqlType:
    """Return the type that a TypeName means."""
    names = [part.sval for part in type_name.names]
    schema = names[-2] if len(names) > 1 and names[-2] != "pg_catalog" else None
    plain = _INTEGERS[SERIAL[names[-1]]] if names[-1] in SERIAL else names[-1]
    return SqlType(Name(schema, plain), modifiers(type_name), bool(type_name.arrayBounds), type_name)


def keeps_rows(old: SqlType, new: SqlType, *, in_utc: bool = False) -> bool:
    """Return whether PostgreSQL changes the type without rewriting a row.

    It does so where the types are binary coercible, and where the support function of the cast (`varchar_support`,
    `numeric_support` and the like) proves that the cast changes no value.

    Source: `ATColumnChangeRequiresRewrite` of PostgreSQL (tablecmds.c)

    Args:
        old: Type of the column; for a domain, the type that it is over.
        new: Type that the statement gives it, likewise.
        in_utc: Whether the session's time zone is UTC, in which `timestamp` and `timestamptz` store the same value.
    """
    if old.limits is None or new.limits is None or old.array != new.array:
        return False
    old_name, new_name = old.name.name, new.name.name
    if (old.name.matches(new.name) and old.limits == new.limits) or (old_name, new_name) == ("cidr", "inet"):
        return True
    if {old_name, new_name} == _TIMESTAMPS:
        return in_utc and old.limits == new.limits
    if old_name == new_name == "numeric":
        return _wider_numeric(old.limits, new.limits)
    if {old_name, new_name} <= _TEXT or (old_name == new_name and old_name in _WIDENABLE):
        return not new.limits or bool(old.limits and new.limits[0] >= old.limits[0])
    return False


def keeps_indexes(old: SqlType, new: SqlType) -> bool:
    """Return whether an index on the plain column stays as it is where no row is rewritten.

    `timestamp` and `timestamptz` have operator classes of their own; text and varchar, cidr and inet share theirs.

    Source: PostgreSQL's `CheckIndexCompatible` (indexcmds.c)
    """
    return {old.name.name, new.name.name} != _TIMESTAMPS


def is_compatible(old: SqlType, new: SqlType) -> bool:
    """Return whether an older image can go on writing its values to a column, and reading them, after its type changes.

    It can where the new type is a wider one of the same family, whose values drivers read alike. A type with a modifier
    that is not a constant counts as compatible, since lint cannot know.

    Args:
        old: Type of the column; for a domain, the type that it is over.
        new: Type that the statement gives it, likewise.
    """
    if old.array != new.array or old.limits is None or new.limits is None:
        return old.array == new.array
    before, after = old.name.name, new.name.name
    if before == after == "numeric":
        return _is_compatible_numeric(old.limits, new.limits)
    if before == after == "bit":
        return old.limits == new.limits
    if {before, after} <= _STRINGS or before == after == "varbit":
        pads = after == "bpchar" != before  # what is read has blanks at its end
        return not pads and (not new.limits or bool(old.limits and new.limits[0] >= old.limits[0]))
    return old.name.matches(new.name) or any(
        before in family and after in family[family.index(before) :] for family in _WIDER
    )


def _is_compatible_numeric(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Return whether neither the digits behind the decimal point nor those before it become fewer."""
    if not (old and new):
        return not new
    old_scale, new_scale = (limits[1] if len(limits) > 1 else 0 for limits in (old, new))
    return new_scale >= old_scale and new[0] - new_scale >= old[0] - old_scale


def _wider_numeric(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Return whether the scale stays the same and the precision does not shrink."""
    if not new:
        return True
    if not old:
        return False
    old_scale, new_scale = (limits[1] if len(limits) > 1 else 0 for limits in (old, new))
    return old_scale == new_scale and new[0] >= old[0]
