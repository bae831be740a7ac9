"""Drops and renames of what older images use, outside a migration that is marked `contract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, qualified_name, quote_ident, relation_name
from migrations.lint.rule import ALTER_TABLE, Level, Lock, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement

DROP_WITHOUT_CONTRACT = Rule(
    "drop-without-contract",
    Level.ERROR,
    "A table, column, view, schema or type is dropped while pods of older images still use it.",
    ALTER_TABLE,
    Lock.ACCESS_EXCLUSIVE,
    ("ban-drop-table", "ban-drop-column", "ban-drop-database", "remove_column", "drop_table"),
    details=(
        "The drop takes no time, but pods of the previous image still run, and a rollback starts more of "
        "them. A migration marked `contract compatible-from:REV` may drop: ledgergate keeps out images "
        "that expect a revision older than REV. A view that the same file creates again passes."
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
    "A table, column, view, schema, type or enum value is renamed while pods of older images use the old name.",
    ALTER_TABLE,
    Lock.ACCESS_EXCLUSIVE,
    ("renaming-table", "renaming-column", "rename_table", "rename_column", "rename_schema"),
    details="As with a drop, older images know the old name only. SET SCHEMA counts as a rename.",
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
_LOCKED_KINDS = {_OBJECT.OBJECT_TABLE, _OBJECT.OBJECT_VIEW, _OBJECT.OBJECT_MATVIEW, _OBJECT.OBJECT_FOREIGN_TABLE}
_TYPE_KINDS = {_OBJECT.OBJECT_SCHEMA, _OBJECT.OBJECT_TYPE, _OBJECT.OBJECT_DOMAIN}


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield what a statement drops or renames that older images use."""
    if context.contract:
        return
    node: Any = statement.node
    match node:
        case ast.DropStmt() if node.removeType in _KINDS:
            for name in map(qualified_name, node.objects or ()):
                if not (_is_new(name, node.removeType, context) or _is_recreated(name, context)):
                    yield _drop_violation(
                        _KINDS[node.removeType], name, context, locked=node.removeType in _LOCKED_KINDS
                    )
        case ast.DropdbStmt(dbname=str(database)):
            yield _drop_violation("database", Name(None, database), context, locked=False)
        case ast.AlterTableStmt():
            yield from _check_dropped_columns(node, context)
        case _:
            yield from _check_rename(node, context)


def _check_rename(node: Any, context: StatementContext) -> Iterator[Violation]:
    match node:
        case ast.RenameStmt() if node.renameType in _KINDS:
            yield from _check_rename_statement(node, context)
        case ast.AlterEnumStmt() if node.oldVal:
            kind = qualified_name(node.typeName)
            if not context.type_is_new(kind):
                yield _rename_violation(f"the value {node.oldVal!r} of {kind} becomes {node.newVal!r}", context, ())
        case ast.AlterObjectSchemaStmt() if node.objectType in _KINDS:
            yield from _check_set_schema(node, context)


def _is_new(name: Name, kind: Any, context: StatementContext) -> bool:
    if kind in _TYPE_KINDS:
        return context.type_is_new(name)
    return context.is_new(name)


def _is_recreated(name: Name, context: StatementContext) -> bool:
    """Whether the section creates a view of this name: dropping and creating a view is how one changes it."""
    for node in context.section_nodes:
        match node:
            case ast.ViewStmt(view=created) | ast.CreateTableAsStmt(into=ast.IntoClause(rel=created)):
                if relation_name(created).matches(name):
                    return True
    return False


def _contract_way(context: StatementContext) -> tuple[str, ...]:
    return (
        "-- first deploy images that do not use it; then, in a migration with this up line:",
        f"-- migrate:up contract compatible-from:{context.previous_revision}",
        "-- (compatible-from names the revision that the first of those images expects)",
    )


def _drop_violation(kind: str, name: Name, context: StatementContext, *, locked: bool) -> Violation:
    text = f"pods of older images may still use the {kind} {name}"
    return Violation(DROP_WITHOUT_CONTRACT, text, _contract_way(context), (str(name),) if locked else ())


def _check_dropped_columns(node: Any, context: StatementContext) -> Iterator[Violation]:
    table = relation_name(node.relation)
    for command in node.cmds or ():
        if command.subtype == enums.AlterTableType.AT_DropColumn and not context.is_new(table):
            text = f"pods of older images may still use the column {quote_ident(command.name)} of {table}"
            yield Violation(DROP_WITHOUT_CONTRACT, text, _contract_way(context), (str(table),))


def _check_rename_statement(node: Any, context: StatementContext) -> Iterator[Violation]:
    kind = _KINDS[node.renameType]
    if node.relation is None:
        old = qualified_name(node.object) if node.object is not None else Name(None, node.subname or "")
        if not context.type_is_new(old):
            yield _rename_violation(f"the {kind} {old} becomes {quote_ident(node.newname)}", context, ())
        return
    table = relation_name(node.relation)
    if context.is_new(table) or context.type_is_new(table):
        return
    if node.renameType in {_OBJECT.OBJECT_COLUMN, _OBJECT.OBJECT_ATTRIBUTE}:
        text = f"the {kind} {quote_ident(node.subname)} of {table} becomes {quote_ident(node.newname)}"
    else:
        text = f"the {kind} {table} becomes {quote_ident(node.newname)}"
    yield _rename_violation(text, context, () if node.renameType == _OBJECT.OBJECT_ATTRIBUTE else (str(table),))


def _check_set_schema(node: Any, context: StatementContext) -> Iterator[Violation]:
    old = relation_name(node.relation) if node.relation is not None else qualified_name(node.object)
    if not _is_new(old, node.objectType, context):
        text = f"the {_KINDS[node.objectType]} {old} becomes {quote_ident(node.newschema)}.{quote_ident(old.name)}"
        yield _rename_violation(text, context, (str(old),) if node.relation is not None else ())


def _rename_violation(text: str, context: StatementContext, locks: tuple[str, ...]) -> Violation:
    return Violation(
        RENAME_WITHOUT_CONTRACT,
        f"{text}, and pods of older images use the old name",
        (
            "-- add a column (or a view) with the new name beside the old one. To drop the old one,",
            *_contract_way(context),
        ),
        locks,
    )
