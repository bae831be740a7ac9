"""Changes of a column's type that rewrite the table, or what depends on the column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.batches import backfill
from migrations.lint.parser import quote_ident, relation_name, to_sql
from migrations.lint.rule import ALTER_TABLE, Level, Lock, Rule, Violation
from migrations.lint.types import keeps_indexes, keeps_rows, sql_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.objects import Table
    from migrations.lint.parser import Name, ParsedStatement
    from migrations.lint.types import SqlType

TYPE_CHANGE = Rule(
    "type-change",
    Level.ERROR,
    "Changing the type of a column blocks reads and writes while the table and its indexes are rewritten.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    ("changing-column-type", "change_column"),
    details=(
        "These changes rewrite no row and pass, where an earlier file shows the old type: a longer "
        "`varchar`, `varchar` to `text` and back without a limit, a higher precision of `numeric` with "
        "the same scale, of `timestamp`, `timestamptz`, `time` or `varbit`, `cidr` to `inet`, and "
        "`timestamp` to `timestamptz` after `SET LOCAL timezone = 'UTC'`, and a domain without a constraint to its "
        "base type and back; see type-change-dependents for what they do to indexes and CHECKs. Where no file shows "
        "the old type, lint cannot know: allow it with a reason."
    ),
    safe=(
        "ALTER TABLE users ADD COLUMN id_new bigint;",
        "-- write both from the application (or a trigger), and fill it in batches:",
        "UPDATE users SET id_new = id WHERE id_new IS NULL AND ...;",
        "-- read id_new, then drop id in a contract migration",
    ),
)
TYPE_CHANGE_DEPENDENTS = Rule(
    "type-change-dependents",
    Level.ERROR,
    "A change of type that rewrites no row still rebuilds indexes and checks CHECKs, and blocks reads and writes "
    "meanwhile.",
    f"{ALTER_TABLE}#SQL-ALTERTABLE-NOTES",
    Lock.ACCESS_EXCLUSIVE,
    details=(
        "PostgreSQL makes everything anew that depends on the column, even where the type stays the same. An index on "
        "plain columns is kept, except from `timestamp` to `timestamptz` and back, whose order is another one; an "
        "index with an expression or a predicate is built again, and a valid CHECK is checked for every row."
    ),
    safe=(
        "-- in a migration of its own: -- migrate:up transaction:false",
        "DROP INDEX CONCURRENTLY users_lower_name_idx;",
        "-- in a later migration:",
        "ALTER TABLE users ALTER COLUMN name TYPE text;",
        "-- and after that one, again with transaction:false:",
        "CREATE INDEX CONCURRENTLY users_lower_name_idx ON users (lower(name));",
    ),
)
RULES = (TYPE_CHANGE, TYPE_CHANGE_DEPENDENTS)

_AT = enums.AlterTableType


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield the columns of existing tables whose type changes, with what PostgreSQL does anew."""
    node = statement.node
    if not isinstance(node, ast.AlterTableStmt) or node.objtype != enums.ObjectType.OBJECT_TABLE:
        return
    table = relation_name(node.relation)
    if not context.is_new(table):
        for command in node.cmds or ():
            if command.subtype == _AT.AT_AlterColumnType:
                yield from _check_type_change(table, command, context)


def _check_type_change(table: Name, command: Any, context: StatementContext) -> Iterator[Violation]:
    definition = command.def_
    new, old = sql_type(definition.typeName), context.schema.column_type(table, command.name)
    using = definition.raw_default
    if old is None or not (using is None or _is_default_cast(using, command.name, definition.typeName)):
        yield _rewrite_violation(table, command, old)
        return
    domain = None if new.array else context.schema.type(new.name)
    is_checked = domain is not None and domain.constrained and not old.name.matches(new.name)
    before, after = context.schema.base_type(old), context.schema.base_type(new)
    if is_checked or not keeps_rows(before, after, in_utc=context.schema.utc_file == context.file):
        in_utc = not is_checked and keeps_rows(before, after, in_utc=True)
        yield _rewrite_violation(table, command, old, in_utc=in_utc)
        return
    known = context.schema.table(table)
    parts = list(_dependents(known, command.name, before, after, definition)) if known else []
    if parts:
        yield _dependents_violation(table, command, parts)


def _dependents(table: Table, column: str, old: SqlType, new: SqlType, definition: Any) -> Iterator[str]:
    """Yield what PostgreSQL builds or checks again for a column whose rows stay as they are.

    PostgreSQL drops every index and constraint of the column and creates it again. It reuses the file of an index that
    `CheckIndexCompatible` accepts, never that of an index with an expression or a predicate.

    Source: `ATPostAlterTypeParse` (tablecmds.c) and `CheckIndexCompatible` (indexcmds.c) of PostgreSQL
    """
    same_order = keeps_indexes(old, new) and definition.collClause is None
    for name, index in table.indexes.items():
        if column in index.columns and (index.computed or not same_order):
            yield f"the index {quote_ident(name)} is rebuilt"
    for name, constraint in table.constraints.items():
        if column in constraint.columns and constraint.valid:
            if constraint.expression is not None:
                yield f"the CHECK {quote_ident(name)} is checked for every row"
            elif not keeps_indexes(old, new):
                yield f"the FOREIGN KEY {quote_ident(name)} is checked for every row"


def _dependents_violation(table: Name, command: Any, parts: list[str]) -> Violation:
    name = quote_ident(command.name)
    return Violation(
        TYPE_CHANGE_DEPENDENTS,
        f"the new type of {name} rewrites no row, but {' and '.join(parts)}, which blocks reads and writes of {table}",
        (
            "-- before it, in migrations of their own: drop what depends on the column (an index with CONCURRENTLY)",
            f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {to_sql(command.def_.typeName)};",
            "-- after it: build it again (an index with CONCURRENTLY, a CHECK with NOT VALID and VALIDATE)",
        ),
        (str(table),),
    )


def _rewrite_violation(table: Name, command: Any, old: SqlType | None, *, in_utc: bool = False) -> Violation:
    using, name, kind = command.def_.raw_default, quote_ident(command.name), to_sql(command.def_.typeName)
    copy = quote_ident(f"{command.name}_new")
    value = to_sql(using) if using is not None else f"{name}::{kind}"
    unknown = "" if old is not None else "; no file shows its present type, so lint cannot rule that out"
    from_old = f" from {old}" if old is not None else ""
    if in_utc:
        safe: tuple[str, ...] = (
            "SET LOCAL timezone = 'UTC';  -- if the values are in UTC: rewrites no row (PostgreSQL 12 or newer)",
            f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {kind};",
        )
    else:
        safe = (
            f"ALTER TABLE {table} ADD COLUMN {copy} {kind};",
            f"-- write both columns from the application (or a trigger), and fill {copy} in batches:",
            backfill(table, copy, value),
            f"-- let the application read {copy}, then drop {name} in a contract migration",
        )
    text = f"the type of {name}{from_old} to {kind} rewrites {table} and blocks reads and writes meanwhile{unknown}"
    return Violation(TYPE_CHANGE, text, safe, (str(table),))


def _is_default_cast(using: Any, column: str, kind: Any) -> bool:
    """Return whether USING is the cast that PostgreSQL does without it: `column` or `column::type`."""
    if isinstance(using, ast.TypeCast) and to_sql(using.typeName) == to_sql(kind):
        using = using.arg
    match using:
        case ast.ColumnRef(fields=(*_, ast.String(sval=name))):
            return bool(name == column)
        case _:
            return False
