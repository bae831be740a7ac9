"""Definitions that block nothing today and cost later; shown with --advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import quote_ident, relation_name, to_sql
from migrations.lint.plpgsql import parse_do_block
from migrations.lint.rule import Level, Rule, Violation
from migrations.lint.types import base_name, modifiers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement

IF_NOT_EXISTS = Rule(
    "if-not-exists",
    Level.ADVICE,
    "IF NOT EXISTS accepts any object of that name, and so hides that a database has drifted.",
    "https://www.postgresql.org/docs/current/sql-createtable.html",
    safe=("CREATE TABLE users (id bigint PRIMARY KEY);",),
)
TIMESTAMP_WITHOUT_TIME_ZONE = Rule(
    "timestamp-without-time-zone",
    Level.ADVICE,
    "A timestamp without time zone does not identify a moment in time.",
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
    "Lint cannot read SQL that a DO block builds at run time, nor a block in another language than PL/pgSQL.",
    "https://www.postgresql.org/docs/current/sql-do.html",
    details=(
        "The statements of a PL/pgSQL block are read like any other, including those under a condition "
        "and those in `EXECUTE 'a constant string'`."
    ),
    safe=("-- write plain statements, or EXECUTE with a constant string, where that is enough",),
)
RULES = (IF_NOT_EXISTS, TIMESTAMP_WITHOUT_TIME_ZONE, CHAR_TYPE, INTEGER_PRIMARY_KEY, JSON_COLUMN, DO_BLOCK)

_AT = enums.AlterTableType
_KIND = enums.ConstrType
_INTEGER_TYPES = frozenset(("int2", "int4", "serial", "serial4", "smallserial", "serial2"))


def check(statement: ParsedStatement, _context: StatementContext) -> Iterator[Violation]:
    """Yield the definitions that cost later."""
    node = statement.node
    match node:
        case ast.CreateStmt():
            if node.if_not_exists:
                yield _if_not_exists_violation("table", str(relation_name(node.relation)))
            keys = _primary_key_columns(node.tableElts)
            for column in _column_definitions(node.tableElts):
                yield from _check_column(column, is_key=column.colname in keys)
        case ast.AlterTableStmt():
            for command in node.cmds or ():
                if command.subtype == _AT.AT_AddColumn:
                    if command.missing_ok:
                        yield _if_not_exists_violation("column", quote_ident(command.def_.colname))
                    yield from _check_column(
                        command.def_, is_key=command.def_.colname in _primary_key_columns([command.def_])
                    )
        case ast.DoStmt() if not parse_do_block(statement).complete:
            safe = ("-- write plain statements, or EXECUTE with a constant string, where that is enough",)
            yield Violation(DO_BLOCK, "lint cannot read every statement of this block", safe)


def _column_definitions(elements: Any) -> list[Any]:
    return [element for element in elements or () if isinstance(element, ast.ColumnDef) and element.typeName]


def _primary_key_columns(elements: Any) -> set[str]:
    """Return the columns that are the primary key by themselves."""
    inline = {
        column.colname
        for column in _column_definitions(elements)
        for constraint in column.constraints or ()
        if constraint.contype == _KIND.CONSTR_PRIMARY
    }
    separate = [
        constraint.keys
        for constraint in elements or ()
        if isinstance(constraint, ast.Constraint) and constraint.contype == _KIND.CONSTR_PRIMARY and constraint.keys
    ]
    return inline | {keys[0].sval for keys in separate if len(keys) == 1}


def _if_not_exists_violation(kind: str, name: str) -> Violation:
    safe = ("-- leave IF NOT EXISTS out: the ledger records whether the migration has run",)
    return Violation(IF_NOT_EXISTS, f"an existing {kind} {name} with another definition stays as it is", safe)


def _check_column(column: Any, *, is_key: bool) -> Iterator[Violation]:
    if not column.typeName:
        return
    name, kind = quote_ident(column.colname), base_name(column.typeName)
    if kind == "timestamp":
        yield Violation(
            TIMESTAMP_WITHOUT_TIME_ZONE, f"{name} does not identify a moment in time", (f"{name} timestamptz",)
        )
    elif kind == "bpchar":
        length = (modifiers(column.typeName) or (1,))[0]
        text = f"{name} {to_sql(column.typeName)} pads with blanks"
        yield Violation(CHAR_TYPE, text, (f"{name} text CHECK (length({name}) = {length})",))
    elif kind == "json":
        yield Violation(JSON_COLUMN, f"SELECT DISTINCT fails on {name}", (f"{name} jsonb",))
    elif is_key and kind in _INTEGER_TYPES:
        text = f"the primary key {name} ends at {32767 if '2' in kind or 'small' in kind else 2147483647}"
        yield Violation(INTEGER_PRIMARY_KEY, text, (f"{name} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",))
