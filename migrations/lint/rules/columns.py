"""Added columns that rewrite the table, or that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.batches import backfill
from migrations.lint.parser import quote_ident, relation_name, to_sql, walk
from migrations.lint.rule import ALTER_TABLE, Level, Lock, Rule, Violation
from migrations.lint.types import SERIAL, base_name, sql_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.objects import UserType
    from migrations.lint.parser import Name, ParsedStatement
    from migrations.lint.schema import Schema

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
    "A new stored generated column blocks reads and writes while its value is computed for every row.",
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
DOMAIN_COLUMN = Rule(
    "domain-column",
    Level.ERROR,
    "A new column of a domain with a CHECK or NOT NULL blocks reads and writes while the table is rewritten.",
    "https://www.postgresql.org/docs/current/sql-createdomain.html",
    Lock.ACCESS_EXCLUSIVE,
    details=(
        "PostgreSQL checks the domain for every row, also where the column has no default. A domain without a "
        "constraint passes, and so does an array of a domain. Lint knows the domains that files create."
    ),
    safe=(
        "ALTER TABLE users ADD COLUMN age integer;",
        "ALTER TABLE users ADD CONSTRAINT users_age_check CHECK (age > 0) NOT VALID;",
        "-- in a later migration:",
        "ALTER TABLE users VALIDATE CONSTRAINT users_age_check;",
    ),
)
RULES = (VOLATILE_DEFAULT, GENERATED_STORED, SERIAL_COLUMN, DOMAIN_COLUMN, NOT_NULL_WITHOUT_DEFAULT)

_AT = enums.AlterTableType
_KIND = enums.ConstrType
# Built-in functions that are common in defaults and not volatile; test_lint_claims.py compares them with pg_proc.
# A function that is neither here nor declared STABLE or IMMUTABLE by a file may be volatile.
NOT_VOLATILE = frozenset(
    """
    abs age array_length btrim cardinality ceil concat current_database current_schema current_setting
    date_part date_trunc daterange decode encode extract floor format int4range int8range json_build_array
    json_build_object json_object jsonb_build_array jsonb_build_object jsonb_object length lower ltrim
    make_date make_interval make_time make_timestamp make_timestamptz md5 now numrange replace round rtrim
    sha256 statement_timestamp string_to_array substr substring timezone to_char to_date to_json to_jsonb
    to_number to_timestamp to_tsvector transaction_timestamp trunc tsrange tstzrange upper
    """.split()  # noqa: SIM905 - sixty names on sixty lines are no easier to read
)


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield the columns of existing tables whose addition or change touches every row."""
    node = statement.node
    if not isinstance(node, ast.AlterTableStmt) or node.objtype != enums.ObjectType.OBJECT_TABLE:
        return
    table = relation_name(node.relation)
    if context.is_new(table):
        return
    for command in node.cmds or ():
        if command.subtype == _AT.AT_AddColumn and not context.adds_nothing(table, command):
            yield from _check_added_column(table, command.def_, context)


def _check_added_column(table: Name, column: Any, context: StatementContext) -> Iterator[Violation]:
    schema = context.schema
    name, kind = quote_ident(column.colname), base_name(column.typeName) if column.typeName else ""
    constraints = {constraint.contype: constraint for constraint in column.constraints or ()}
    default_clause = constraints.get(_KIND.CONSTR_DEFAULT)
    default = default_clause.raw_expr if default_clause else None
    generated = constraints.get(_KIND.CONSTR_GENERATED)
    domain = (
        schema.type(sql_type(column.typeName).name) if column.typeName and not column.typeName.arrayBounds else None
    )
    if default is None and domain is not None:
        default = domain.default
    if generated is not None:
        if generated.generated_kind != "v":  # VIRTUAL (PostgreSQL 18) stores nothing
            yield _generated_violation(table, name, column)
    elif kind in SERIAL or _KIND.CONSTR_IDENTITY in constraints:
        yield _serial_violation(table, name, SERIAL.get(kind) or to_sql(column.typeName))
    # PostgreSQL rewrites the table even without a default (DomainHasConstraints in ATExecAddColumn, tablecmds.c).
    elif domain is not None and domain.constrained:
        yield _domain_violation(table, name, column, domain)
    elif default is not None and (function := _volatile_function(default, schema)):
        yield _volatile_default_violation(table, name, column, to_sql(default), function)
    elif default is not None and not _is_null(default) and context.is_before(11):
        yield _old_default_violation(table, name, column, to_sql(default), context.version)
    elif _is_null(default) and {_KIND.CONSTR_NOTNULL, _KIND.CONSTR_PRIMARY} & constraints.keys():
        yield _not_null_violation(table, name, column)


def _volatile_function(expression: Any, schema: Schema) -> str | None:
    """Return the name of the first function in an expression that is or may be volatile."""
    for node in walk(expression):
        if isinstance(node, ast.FuncCall) and node.funcname:
            function = node.funcname[-1].sval
            declared = schema.volatility(function)
            if declared == "volatile" or (declared is None and function not in NOT_VOLATILE):
                return str(function)
    return None


def _domain_violation(table: Name, name: str, column: Any, domain: UserType) -> Violation:
    base = domain.base or to_sql(column.typeName)
    return Violation(
        DOMAIN_COLUMN,
        f"the domain {to_sql(column.typeName)} of {name} is checked for every row, which rewrites {table} and blocks "
        "reads and writes meanwhile",
        (
            f"ALTER TABLE {table} ADD COLUMN {name} {base};",
            "-- with the default and the CHECK of the domain: the CHECK as check-not-valid says",
        ),
        (str(table),),
    )


def _is_null(default: Any) -> bool:
    while isinstance(default, ast.TypeCast):
        default = default.arg
    return default is None or (isinstance(default, ast.A_Const) and bool(default.isnull))


def _generated_violation(table: Name, name: str, column: Any) -> Violation:
    return Violation(
        GENERATED_STORED,
        f"the stored column {name} blocks reads and writes of {table} while its value is computed for every row",
        (
            f"ALTER TABLE {table} ADD COLUMN {name} {to_sql(column.typeName)};",
            "-- fill it by a trigger for new rows and in batches for existing ones; or, from PostgreSQL 18 on, use",
            "-- GENERATED ALWAYS AS (...) VIRTUAL, which is computed when it is read",
        ),
        (str(table),),
    )


def _serial_violation(table: Name, name: str, kind: str) -> Violation:
    sequence = quote_ident(f"{table.name}_{name.strip(chr(34))}_seq")
    return Violation(
        SERIAL_COLUMN,
        f"the column {name} blocks reads and writes of {table} while every row gets its number",
        (
            f"CREATE SEQUENCE {sequence};",
            f"ALTER TABLE {table} ADD COLUMN {name} {kind};",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT nextval('{sequence}');  -- for new rows",
            f"ALTER SEQUENCE {sequence} OWNED BY {table}.{name};",
            "-- then in batches, each in a transaction of its own:",
            backfill(table, name, f"nextval('{sequence}')"),
        ),
        (str(table),),
    )


def _volatile_default_violation(table: Name, name: str, column: Any, default: str, function: str) -> Violation:
    return Violation(
        VOLATILE_DEFAULT,
        f"{function}() gives every row its own value, which rewrites {table} and blocks reads and writes meanwhile",
        (
            f"ALTER TABLE {table} ADD COLUMN {name} {to_sql(column.typeName)};",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {default};  -- for new rows",
            "-- then in batches, each in a transaction of its own:",
            backfill(table, name, default),
        ),
        (str(table),),
    )


def _old_default_violation(table: Name, name: str, column: Any, default: str, version: int | None) -> Violation:
    text = f"PostgreSQL {version} writes the default into every row, which rewrites {table} and blocks reads and writes"
    return Violation(
        VOLATILE_DEFAULT,
        text,
        (
            f"ALTER TABLE {table} ADD COLUMN {name} {to_sql(column.typeName)};",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {default};  -- for new rows",
            "-- then in batches, each in a transaction of its own:",
            backfill(table, name, default),
        ),
        (str(table),),
    )


def _not_null_violation(table: Name, name: str, column: Any) -> Violation:
    kind = to_sql(column.typeName) if column.typeName else "..."
    return Violation(
        NOT_NULL_WITHOUT_DEFAULT,
        f"the NOT NULL column {name} has no value for the rows of {table}, nor for those that older images insert",
        (
            f"ALTER TABLE {table} ADD COLUMN {name} {kind} NOT NULL DEFAULT ...;  -- a constant rewrites no row",
            "-- or add it without NOT NULL, fill it in batches, and then proceed as not-null-scan says",
        ),
    )
