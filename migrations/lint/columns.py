"""Columns whose addition or change rewrites the table, or fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import identifier, relation, sql_of, walk
from migrations.lint.rule import ALTER_TABLE, Hit, Level, Lock, Rule
from migrations.lint.types import SERIAL, base, keeps_rows
from migrations.lint.writes import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.parser import Name, ParsedStatement
    from migrations.lint.schema import Schema, StatementContext

TYPE_CHANGE = Rule(
    "type-change",
    Level.ERROR,
    "A new type of a column blocks reads and writes while the table and its indexes are rewritten.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    ("changing-column-type", "change_column"),
    details=(
        "These changes need no scan and pass, where an earlier file shows the old type: a longer "
        "`varchar`, `varchar` to `text` and back without a limit, a higher precision of `numeric` with "
        "the same scale, of `timestamp`, `timestamptz`, `time` or `varbit`, `cidr` to `inet`, and "
        "`timestamp` to `timestamptz` after `SET LOCAL timezone = 'UTC'`. Where no file shows the old "
        "type, lint cannot know: allow it with a reason."
    ),
    safe=(
        "ALTER TABLE users ADD COLUMN id_new bigint;",
        "-- write both from the application (or a trigger), and fill it in batches:",
        "UPDATE users SET id_new = id WHERE id_new IS NULL AND ...;",
        "-- read id_new, then drop id in a contract migration",
    ),
)
VOLATILE_DEFAULT = Rule(
    "volatile-default",
    Level.ERROR,
    "A new column with a volatile default blocks reads and writes while every row gets its own value.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    ("adding-field-with-default", "add_column_default_callable"),
    details=(
        "A constant, or a function that is STABLE or IMMUTABLE such as now(), is stored once for all "
        "existing rows since PostgreSQL 11. random(), gen_random_uuid() and clock_timestamp() are "
        "volatile; so is your own function, unless a file declares it STABLE or IMMUTABLE."
    ),
    safe=(
        "ALTER TABLE users ADD COLUMN token uuid;",
        "ALTER TABLE users ALTER COLUMN token SET DEFAULT gen_random_uuid();  -- for new rows",
        "-- then in batches, each in a transaction of its own:",
        "UPDATE users SET token = gen_random_uuid() WHERE token IS NULL AND ...;",
    ),
)
GENERATED_STORED = Rule(
    "generated-stored",
    Level.ERROR,
    "A new stored generated column blocks reads and writes while every row is computed.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    ("adding-field-with-default", "add_column_generated_stored"),
    details="From PostgreSQL 18 on, a VIRTUAL column is computed when it is read, and passes.",
    safe=(
        "ALTER TABLE users ADD COLUMN total numeric;",
        "-- fill it by a trigger for new rows, and for old ones in batches",
    ),
)
SERIAL_COLUMN = Rule(
    "serial-column",
    Level.ERROR,
    "A new serial or identity column blocks reads and writes while every row gets its number.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    ("adding-serial-primary-key-field", "add_column_auto_incrementing"),
    details="The default of such a column is nextval(), which is volatile.",
    safe=(
        "CREATE SEQUENCE users_number_seq;",
        "ALTER TABLE users ADD COLUMN number bigint;",
        "ALTER TABLE users ALTER COLUMN number SET DEFAULT nextval('users_number_seq');  -- for new rows",
        "ALTER SEQUENCE users_number_seq OWNED BY users.number;",
        "-- then in batches, each in a transaction of its own:",
        "UPDATE users SET number = nextval('users_number_seq') WHERE number IS NULL AND ...;",
    ),
)
NOT_NULL_WITHOUT_DEFAULT = Rule(
    "not-null-without-default",
    Level.ERROR,
    "A new NOT NULL column without a default fails on a table that has rows, and breaks the INSERTs of older images.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-DESC-ADD-COLUMN",
    None,
    ("adding-required-field",),
    details=(
        "It works on a developer's empty table and fails in production. Where it works, images that do "
        "not know the column can no longer insert."
    ),
    safe=("ALTER TABLE users ADD COLUMN age integer NOT NULL DEFAULT 0;  -- a constant takes no time",),
)
RULES = (TYPE_CHANGE, VOLATILE_DEFAULT, GENERATED_STORED, SERIAL_COLUMN, NOT_NULL_WITHOUT_DEFAULT)

_AT = enums.AlterTableType
_KIND = enums.ConstrType
# Built-in functions that people put into defaults and that are not volatile (a test asks pg_proc); a function that
# is neither here nor declared STABLE or IMMUTABLE by a file may be volatile.
STEADY = frozenset(
    """
    abs age array_length btrim cardinality ceil concat current_database current_schema current_setting
    date_part date_trunc daterange decode encode extract floor format int4range int8range json_build_array
    json_build_object json_object jsonb_build_array jsonb_build_object jsonb_object length lower ltrim
    make_date make_interval make_time make_timestamp make_timestamptz md5 now numrange replace round rtrim
    sha256 statement_timestamp string_to_array substr substring timezone to_char to_date to_json to_jsonb
    to_number to_timestamp to_tsvector transaction_timestamp trunc tsrange tstzrange upper
    """.split()  # noqa: SIM905 - sixty names in sixty lines are no easier to read
)


def check(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    """Give the columns that a statement adds or changes row by row."""
    node = statement.node
    if not isinstance(node, ast.AlterTableStmt) or node.objtype != enums.ObjectType.OBJECT_TABLE:
        return
    table = relation(node.relation)
    if catalog.is_new(table, place.file):
        return
    for command in node.cmds or ():
        if command.subtype == _AT.AT_AddColumn:
            yield from _added(table, command.def_, catalog)
        elif command.subtype == _AT.AT_AlterColumnType:
            yield from _changed(table, command, place, catalog)


def _added(table: Name, column: Any, catalog: Schema) -> Iterator[Hit]:
    name, kind = identifier(column.colname), base(column.typeName) if column.typeName else ""
    constraints = {constraint.contype: constraint for constraint in column.constraints or ()}
    given = constraints.get(_KIND.CONSTR_DEFAULT)
    default = given.raw_expr if given else None
    generated = constraints.get(_KIND.CONSTR_GENERATED)
    if generated is not None:
        if generated.generated_kind != "v":
            yield _generated(table, name, column)
    elif kind in SERIAL or _KIND.CONSTR_IDENTITY in constraints:
        yield _serial(table, name, SERIAL.get(kind) or sql_of(column.typeName))
    elif default is not None and (function := _volatile(default, catalog)):
        yield _default(table, name, column, sql_of(default), function)
    elif _is_null(default) and {_KIND.CONSTR_NOTNULL, _KIND.CONSTR_PRIMARY} & constraints.keys():
        yield _required(table, name, column)


def _volatile(expression: Any, catalog: Schema) -> str | None:
    """Name the first function of an expression that is or may be volatile."""
    for node in walk(expression):
        if isinstance(node, ast.FuncCall) and node.funcname:
            function = node.funcname[-1].sval
            declared = catalog.volatility(function)
            if declared == "volatile" or (declared is None and function not in STEADY):
                return str(function)
    return None


def _is_null(default: Any) -> bool:
    while isinstance(default, ast.TypeCast):
        default = default.arg
    return default is None or (isinstance(default, ast.A_Const) and bool(default.isnull))


def _generated(table: Name, name: str, column: Any) -> Hit:
    return Hit(
        GENERATED_STORED,
        f"the stored column {name} blocks reads and writes of {table} while every row is computed",
        (
            f"ALTER TABLE {table} ADD COLUMN {name} {sql_of(column.typeName)};",
            "-- fill it by a trigger for new rows, and for old ones in batches; or, from PostgreSQL 18 on,",
            "-- GENERATED ALWAYS AS (...) VIRTUAL, which is computed when it is read",
        ),
        (str(table),),
    )


def _serial(table: Name, name: str, kind: str) -> Hit:
    sequence = identifier(f"{table.name}_{name.strip(chr(34))}_seq")
    return Hit(
        SERIAL_COLUMN,
        f"the numbered column {name} blocks reads and writes of {table} while every row gets its number",
        (
            f"CREATE SEQUENCE {sequence};",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT nextval('{sequence}');  -- for new rows",
            f"ALTER SEQUENCE {sequence} OWNED BY {table}.{name};",
            "-- then in batches, each in a transaction of its own:",
            fill(table, name, f"nextval('{sequence}')"),
        ),
        (str(table),),
    )


def _default(table: Name, name: str, column: Any, default: str, function: str) -> Hit:
    return Hit(
        VOLATILE_DEFAULT,
        f"{function}() gives every row its own value, which rewrites {table} and blocks reads and writes meanwhile",
        (
            f"ALTER TABLE {table} ADD COLUMN {name} {sql_of(column.typeName)};",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {default};  -- for new rows",
            "-- then in batches, each in a transaction of its own:",
            fill(table, name, default),
        ),
        (str(table),),
    )


def _required(table: Name, name: str, column: Any) -> Hit:
    kind = sql_of(column.typeName) if column.typeName else "..."
    return Hit(
        NOT_NULL_WITHOUT_DEFAULT,
        f"the column {name} cannot be NOT NULL in the rows that {table} has, nor in those that older images insert",
        (
            f"ALTER TABLE {table} ADD COLUMN {name} {kind} NOT NULL DEFAULT ...;  -- a constant takes no time",
            "-- or without NOT NULL: fill it in batches, then see not-null-scan",
        ),
    )


def _changed(table: Name, command: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    new = command.def_
    old = catalog.column_type(table, command.name)
    using = new.raw_default
    plain = using is None or _is_own_cast(using, command.name, new.typeName)
    if old is not None and plain and new.collClause is None:
        if keeps_rows(old, new.typeName, in_utc=catalog.utc_in == place.file):
            return
        in_utc = keeps_rows(old, new.typeName, in_utc=True)
    else:
        in_utc = False
    name, kind = identifier(command.name), sql_of(new.typeName)
    copy = identifier(f"{command.name}_new")
    value = sql_of(using) if using is not None else f"{name}::{kind}"
    unknown = "" if old is not None else "; no file says its type now, and a change such as varchar(50) to text is safe"
    was = f" from {sql_of(old)}" if old is not None else ""
    if in_utc:
        safe: tuple[str, ...] = (
            "SET LOCAL timezone = 'UTC';  -- where the rows mean UTC: the same rows are right then (PostgreSQL 12)",
            f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {kind};",
        )
    else:
        safe = (
            f"ALTER TABLE {table} ADD COLUMN {copy} {kind};",
            f"-- write both from the application (or a trigger), fill {copy} in batches:",
            fill(table, copy, value),
            f"-- read {copy}, then drop {name} in a contract migration",
        )
    text = f"the type of {name}{was} to {kind} rewrites {table} and blocks reads and writes meanwhile{unknown}"
    if new.collClause is not None and old is not None and plain and keeps_rows(old, new.typeName):
        text = f"the new collation of {name} rebuilds its indexes, and {table} cannot be read or written meanwhile"
    yield Hit(TYPE_CHANGE, text, safe, (str(table),))


def _is_own_cast(using: Any, column: str, kind: Any) -> bool:
    """Whether USING says what would happen without it: `column` or `column::type`."""
    if isinstance(using, ast.TypeCast) and sql_of(using.typeName) == sql_of(kind):
        using = using.arg
    match using:
        case ast.ColumnRef(fields=(*_, ast.String(sval=named))):
            return bool(named == column)
        case _:
            return False
