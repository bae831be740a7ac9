"""Drops and renames of what older images use, outside a migration that is marked `contract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, qualified_name, quote_ident, relation_name
from migrations.lint.rule import ALTER_TABLE, Level, Lock, Rule, Violation
from migrations.lint.survivors import is_made_again, keeps_name, sets_default_again

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement

DROP_WITHOUT_CONTRACT = Rule(
    "drop-without-contract",
    Level.ERROR,
    "A table, column, view, schema, type, function, trigger, sequence, default or expression is dropped while pods of "
    "older images still use it.",
    ALTER_TABLE,
    Lock.ACCESS_EXCLUSIVE,
    ("ban-drop-table", "ban-drop-column", "ban-drop-database", "remove_column", "drop_table"),
    details=(
        "The drop takes no time, but pods of the previous image still run, and a rollback starts more of "
        "them. A migration marked `contract compatible-from:REV` may drop: ledgergate keeps out images "
        "that expect a revision older than REV. DROP DEFAULT counts for a column that is NOT NULL, because INSERTs "
        "that leave it out fail then, and so does CASCADE, which drops what depends on the object. What the same file "
        "creates again under the name (a view, a function, a trigger, a type, a view in place of a table) passes, and "
        "so does IF EXISTS of what an earlier statement has dropped."
    ),
    safe=(
        "-- first deploy images that do not use it; then:",
        "-- migrate:up contract compatible-from:20250126120000_stop_using_age",
        "ALTER TABLE users DROP COLUMN age;",
    ),
)
RENAME_WITHOUT_CONTRACT = Rule(
    "rename-without-contract",
    Level.ERROR,
    "A table, column, view, schema, type, function, sequence or enum value is renamed while pods of older images use "
    "the old name.",
    ALTER_TABLE,
    Lock.ACCESS_EXCLUSIVE,
    ("renaming-table", "renaming-column", "rename_table", "rename_column", "rename_schema"),
    details=(
        "As with a drop, older images know the old name only. SET SCHEMA counts as a rename. A name passes that the "
        "same file gives to another object, as a view of the old name or a swap of two enums does."
    ),
    safe=(
        "-- add a column (or a view of the new name) beside the old, use it,",
        "-- and drop the old one in a contract migration",
    ),
)
RULES = (DROP_WITHOUT_CONTRACT, RENAME_WITHOUT_CONTRACT)

_OBJECT = enums.ObjectType
_KINDS = {
    _OBJECT.OBJECT_TABLE: "table",
    _OBJECT.OBJECT_FOREIGN_TABLE: "foreign table",
    _OBJECT.OBJECT_VIEW: "view",
    _OBJECT.OBJECT_MATVIEW: "materialized view",
    _OBJECT.OBJECT_SCHEMA: "schema",
    _OBJECT.OBJECT_TYPE: "type",
    _OBJECT.OBJECT_DOMAIN: "domain",
    _OBJECT.OBJECT_COLUMN: "column",
    _OBJECT.OBJECT_ATTRIBUTE: "attribute",
}
_ROUTINES = {
    _OBJECT.OBJECT_FUNCTION: "function",
    _OBJECT.OBJECT_PROCEDURE: "procedure",
    _OBJECT.OBJECT_ROUTINE: "routine",
    _OBJECT.OBJECT_AGGREGATE: "aggregate",
}
_RENAMED = {**_KINDS, **_ROUTINES, _OBJECT.OBJECT_SEQUENCE: "sequence"}
_DROPPED = {**_RENAMED, _OBJECT.OBJECT_EXTENSION: "extension"}
_LOCKED_KINDS = {_OBJECT.OBJECT_TABLE, _OBJECT.OBJECT_VIEW, _OBJECT.OBJECT_MATVIEW, _OBJECT.OBJECT_FOREIGN_TABLE}
_TYPE_KINDS = {_OBJECT.OBJECT_SCHEMA, _OBJECT.OBJECT_TYPE, _OBJECT.OBJECT_DOMAIN}
_CASCADE = enums.DropBehavior.DROP_CASCADE
_AT = enums.AlterTableType


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield what a statement drops or renames that older images use."""
    if context.contract:
        return
    node: Any = statement.node
    match node:
        case ast.DropStmt(removeType=_OBJECT.OBJECT_TRIGGER):
            yield from _check_dropped_triggers(node, context)
        case ast.DropStmt():
            yield from _check_dropped(node, context)
        case ast.DropdbStmt(dbname=str(database)):
            yield _drop_violation("database", Name(None, database), context, locked=False)
        case ast.DropOwnedStmt():
            yield _violation("DROP OWNED drops everything that the role owns, which older images use", context)
        case ast.AlterTableStmt() if not context.is_new(relation_name(node.relation)):
            yield from _check_altered(node, context)
        case _:
            yield from _check_rename(node, context)


def _check_dropped(node: Any, context: StatementContext) -> Iterator[Violation]:
    kind, cascade = node.removeType, node.behavior == _CASCADE
    for parts in node.objects or ():
        name = qualified_name(parts) if parts else None
        if name is None or _is_new(name, kind, context) or (node.missing_ok and context.schema.is_gone(kind, name)):
            continue
        if is_made_again(name, kind, context, if_exists=bool(node.missing_ok)):
            if cascade and _is_known(name, kind, context):
                text = f"CASCADE also drops what depends on {name}, which older images may use"
                yield _violation(text, context, (str(name),) if kind in _LOCKED_KINDS else ())
        elif kind in _DROPPED:
            yield _drop_violation(_DROPPED[kind], name, context, locked=kind in _LOCKED_KINDS, cascade=cascade)


def _check_dropped_triggers(node: Any, context: StatementContext) -> Iterator[Violation]:
    for parts in node.objects or ():
        table, trigger = qualified_name(parts[:-1]), parts[-1].sval
        name = Name(table.name, trigger)
        if context.is_new(table) or context.schema.trigger_is_new(name, context.file):
            continue
        if is_made_again(name, node.removeType, context) or (
            node.missing_ok and context.schema.is_gone(node.removeType, Name(None, trigger))
        ):
            continue
        text = f"writes of pods of older images may still rely on the trigger {quote_ident(trigger)} of {table}"
        yield _violation(text, context, (str(table),))


def _is_known(name: Name, kind: Any, context: StatementContext) -> bool:
    schema = context.schema
    return kind in _ROUTINES or schema.table(name) is not None or schema.type(name) is not None


def _check_rename(node: Any, context: StatementContext) -> Iterator[Violation]:
    match node:
        case ast.RenameStmt() if node.renameType in _RENAMED:
            yield from _check_rename_statement(node, context)
        case ast.AlterEnumStmt() if node.oldVal:
            kind = qualified_name(node.typeName)
            if not context.type_is_new(kind):
                yield _rename_violation(f"the value {node.oldVal!r} of {kind} becomes {node.newVal!r}", context, ())
        case ast.AlterObjectSchemaStmt() if node.objectType in _RENAMED:
            yield from _check_set_schema(node, context)


def _is_new(name: Name, kind: Any, context: StatementContext) -> bool:
    if kind in _TYPE_KINDS:
        return context.type_is_new(name)
    if kind in _ROUTINES:
        return context.schema.function_is_new(name, context.file)
    return context.is_new(name)


def contract_way(context: StatementContext) -> tuple[str, ...]:
    """Return how a statement that breaks older images is run: lines for the end of a safe way."""
    if not context.native:
        return (
            "-- first deploy images that do not use it; then, in a migration of its own, allowed in lint.toml:",
            '-- [[allow]]  file = "...", rules = ["..."], because = "images that use it no longer run"',
        )
    return (
        "-- first deploy images that do not use it; then, in a migration with this up line:",
        f"-- migrate:up contract compatible-from:{context.previous_revision}",
        "-- (compatible-from names the revision that the first of those images expects)",
    )


def _drop_violation(
    kind: str, name: Name, context: StatementContext, *, locked: bool, cascade: bool = False
) -> Violation:
    text = f"pods of older images may still use the {kind} {name}"
    if cascade:
        text += ", and what depends on it: CASCADE drops that too"
    return _violation(text, context, (str(name),) if locked else ())


def _violation(text: str, context: StatementContext, locks: tuple[str, ...] = ()) -> Violation:
    return Violation(DROP_WITHOUT_CONTRACT, text, contract_way(context), locks)


def _check_altered(node: Any, context: StatementContext) -> Iterator[Violation]:
    table = relation_name(node.relation)
    for command in node.cmds or ():
        match command.subtype:
            case _AT.AT_DropColumn if not _drops_nothing(table, command, context):
                text = f"pods of older images may still use the column {quote_ident(command.name)} of {table}"
                if command.behavior == _CASCADE:
                    text += ", and what depends on it: CASCADE drops that too"
                yield _violation(text, context, (str(table),))
            case _AT.AT_ColumnDefault | _AT.AT_DropIdentity if command.def_ is None and command.name:
                if _needs_default(table, command.name, context):
                    text = (
                        f"INSERTs of older images that leave out {quote_ident(command.name)} of {table} fail without "
                        "its default: it is NOT NULL"
                    )
                    yield _violation(text, context, (str(table),))
            case _AT.AT_DropExpression:
                text = f"older images do not write {quote_ident(command.name)} of {table}, which was computed until now"
                yield _violation(text, context, (str(table),))
            case _AT.AT_DropConstraint if command.behavior == _CASCADE:
                text = f"CASCADE also drops the foreign keys that refer to {quote_ident(command.name)} of {table}"
                yield _violation(text, context, (str(table),))


def _drops_nothing(table: Name, command: Any, context: StatementContext) -> bool:
    """Return whether DROP COLUMN IF EXISTS names a column that the table lacks, where all its columns are known."""
    known = context.schema.table(table)
    return bool(command.missing_ok) and known is not None and known.complete and command.name not in known.columns


def _needs_default(table: Name, column: str, context: StatementContext) -> bool:
    known = context.schema.column(table, column)
    if known is None or not (known.not_null and known.has_default):
        return False
    return not sets_default_again(table, column, context)


def _check_rename_statement(node: Any, context: StatementContext) -> Iterator[Violation]:
    kind = _RENAMED[node.renameType]
    if node.relation is None:
        # RENAME of a schema has the old name in `subname`, that of a type or function in `object`.
        old = qualified_name(node.object) if node.object is not None else Name(None, node.subname or "")
        if not (_is_new(old, node.renameType, context) or context.type_is_new(old) or keeps_name(old, context)):
            yield _rename_violation(f"the {kind} {old} becomes {quote_ident(node.newname)}", context, ())
        return
    table = relation_name(node.relation)
    if context.is_new(table) or context.type_is_new(table):
        return
    if node.renameType in {*_LOCKED_KINDS, _OBJECT.OBJECT_SEQUENCE} and keeps_name(table, context):
        return
    if node.renameType in {_OBJECT.OBJECT_COLUMN, _OBJECT.OBJECT_ATTRIBUTE}:
        text = f"the {kind} {quote_ident(node.subname)} of {table} becomes {quote_ident(node.newname)}"
    else:
        text = f"the {kind} {table} becomes {quote_ident(node.newname)}"
    yield _rename_violation(text, context, () if node.renameType == _OBJECT.OBJECT_ATTRIBUTE else (str(table),))


def _check_set_schema(node: Any, context: StatementContext) -> Iterator[Violation]:
    old = relation_name(node.relation) if node.relation is not None else qualified_name(node.object)
    if not _is_new(old, node.objectType, context):
        text = f"the {_RENAMED[node.objectType]} {old} becomes {quote_ident(node.newschema)}.{quote_ident(old.name)}"
        yield _rename_violation(text, context, (str(old),) if node.relation is not None else ())


def _rename_violation(text: str, context: StatementContext, locks: tuple[str, ...]) -> Violation:
    return Violation(
        RENAME_WITHOUT_CONTRACT,
        f"{text}, and pods of older images use the old name",
        (
            "-- add a column (or a view) with the new name beside the old one. To drop the old one,",
            *contract_way(context),
        ),
        locks,
    )
