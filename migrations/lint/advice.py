"""What blocks nobody today, and is regretted later; shown on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import identifier, relation, sql_of
from migrations.lint.plpgsql import inside
from migrations.lint.rule import Hit, Level, Rule
from migrations.lint.types import base, limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.parser import ParsedStatement
    from migrations.lint.schema import Schema, StatementContext

IF_NOT_EXISTS = Rule(
    "if-not-exists",
    Level.ADVICE,
    "IF NOT EXISTS takes whatever has the name for the right one, and so hides that a database has drifted.",
    "https://www.postgresql.org/docs/current/sql-createtable.html",
    safe=("CREATE TABLE users (id bigint PRIMARY KEY);",),
)
TIMESTAMP_WITHOUT_TIME_ZONE = Rule(
    "timestamp-without-time-zone",
    Level.ADVICE,
    "A timestamp without time zone does not say which moment it means.",
    "https://www.postgresql.org/docs/current/datatype-datetime.html",
    None,
    ("prefer-timestamp-tz",),
    details="It is right only while every writer and reader agrees on one time zone.",
    safe=("at timestamptz",),
)
CHAR_TYPE = Rule(
    "char-type",
    Level.ADVICE,
    "char(n) pads with blanks, and is neither smaller nor faster than text.",
    "https://www.postgresql.org/docs/current/datatype-character.html",
    None,
    ("ban-char-field",),
    safe=("code text CHECK (length(code) = 3)",),
)
INTEGER_PRIMARY_KEY = Rule(
    "integer-primary-key",
    Level.ADVICE,
    "An integer primary key ends at 2147483647, and its change to bigint rewrites the table.",
    "https://www.postgresql.org/docs/current/datatype-numeric.html#DATATYPE-INT",
    None,
    ("prefer-big-int", "prefer-bigint-over-int"),
    details="A serial key is an integer too.",
    safe=("id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",),
)
JSON_COLUMN = Rule(
    "json-column",
    Level.ADVICE,
    "json has no equality, so SELECT DISTINCT fails on it.",
    "https://www.postgresql.org/docs/current/datatype-json.html",
    None,
    ("add_column_json",),
    safe=("data jsonb",),
)
DO_BLOCK = Rule(
    "do-block",
    Level.ADVICE,
    "What a DO block puts together when it runs, and what it says in another language than PL/pgSQL, lint cannot read.",
    "https://www.postgresql.org/docs/current/sql-do.html",
    details=(
        "The statements of a PL/pgSQL block are read like any other, including those under a condition "
        "and those in `EXECUTE 'plain text'`."
    ),
    safe=("-- plain statements, or EXECUTE of a plain text, where that is enough",),
)
RULES = (IF_NOT_EXISTS, TIMESTAMP_WITHOUT_TIME_ZONE, CHAR_TYPE, INTEGER_PRIMARY_KEY, JSON_COLUMN, DO_BLOCK)

_AT = enums.AlterTableType
_KIND = enums.ConstrType
_SMALL = frozenset(("int2", "int4", "serial", "serial4", "smallserial", "serial2"))


def check(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:  # noqa: ARG001 - a family's signature
    """Give what may be regretted."""
    node = statement.node
    match node:
        case ast.CreateStmt():
            if node.if_not_exists:
                yield _hides("table", str(relation(node.relation)))
            keys = _keys(node.tableElts)
            for column in _columns(node.tableElts):
                yield from _column(column, is_key=column.colname in keys)
        case ast.AlterTableStmt():
            for command in node.cmds or ():
                if command.subtype == _AT.AT_AddColumn:
                    if command.missing_ok:
                        yield _hides("column", identifier(command.def_.colname))
                    yield from _column(command.def_, is_key=command.def_.colname in _keys([command.def_]))
        case ast.DoStmt() if not inside(statement)[1]:
            safe = ("-- plain statements, or EXECUTE of a plain text, where that is enough",)
            yield Hit(DO_BLOCK, "lint cannot read all that this block does", safe)


def _columns(elements: Any) -> list[Any]:
    return [element for element in elements or () if isinstance(element, ast.ColumnDef) and element.typeName]


def _keys(elements: Any) -> set[str]:
    """Give the columns that are the primary key by themselves."""
    inline = {
        column.colname
        for column in _columns(elements)
        for constraint in column.constraints or ()
        if constraint.contype == _KIND.CONSTR_PRIMARY
    }
    apart = [
        constraint.keys
        for constraint in elements or ()
        if isinstance(constraint, ast.Constraint) and constraint.contype == _KIND.CONSTR_PRIMARY and constraint.keys
    ]
    return inline | {keys[0].sval for keys in apart if len(keys) == 1}


def _hides(kind: str, name: str) -> Hit:
    safe = ("-- without IF NOT EXISTS: the ledger knows whether the migration has run",)
    return Hit(IF_NOT_EXISTS, f"a {kind} {name} that exists with another definition stays as it is", safe)


def _column(column: Any, *, is_key: bool) -> Iterator[Hit]:
    if not column.typeName:
        return
    name, kind = identifier(column.colname), base(column.typeName)
    if kind == "timestamp":
        yield Hit(TIMESTAMP_WITHOUT_TIME_ZONE, f"{name} does not say which moment it means", (f"{name} timestamptz",))
    elif kind == "bpchar":
        length = (limits(column.typeName) or (1,))[0]
        text = f"{name} {sql_of(column.typeName)} pads with blanks"
        yield Hit(CHAR_TYPE, text, (f"{name} text CHECK (length({name}) = {length})",))
    elif kind == "json":
        yield Hit(JSON_COLUMN, f"SELECT DISTINCT fails on {name}", (f"{name} jsonb",))
    elif is_key and kind in _SMALL:
        text = f"the key {name} ends at {32767 if '2' in kind or 'small' in kind else 2147483647}"
        yield Hit(INTEGER_PRIMARY_KEY, text, (f"{name} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",))
