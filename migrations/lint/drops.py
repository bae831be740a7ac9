"""What older images still use and no longer find, unless the migration says that it is a contract migration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, dotted, identifier, relation
from migrations.lint.rule import ALTER_TABLE, Hit, Level, Lock, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.parser import ParsedStatement
    from migrations.lint.schema import Schema, StatementContext

DROP_WITHOUT_CONTRACT = Rule(
    "drop-without-contract",
    Level.ERROR,
    "A table, column, view, schema or type is dropped, and pods of older images still use it.",
    ALTER_TABLE,
    Lock.ACCESS_EXCLUSIVE,
    ("ban-drop-table", "ban-drop-column", "ban-drop-database", "remove_column", "drop_table"),
    details=(
        "The drop takes no time, but pods of the previous image still run, and a rollback starts more of "
        "them. A migration marked `contract compatible-from:REV` may drop: ledgergate keeps out images "
        "that expect a revision older than REV. A view that the same file creates again passes."
    ),
    safe=(
        "-- first deploy images that do without it; then:",
        "-- migrate:up contract compatible-from:20250126120000_stop_using_age",
        "ALTER TABLE users DROP COLUMN age;",
    ),
)
RENAME_WITHOUT_CONTRACT = Rule(
    "rename-without-contract",
    Level.ERROR,
    "A table, column, view, schema, type or enum value gets another name, and pods of older images use the old one.",
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
_LOCKED = {_OBJECT.OBJECT_TABLE, _OBJECT.OBJECT_VIEW, _OBJECT.OBJECT_MATVIEW, _OBJECT.OBJECT_FOREIGN_TABLE}
_TYPES = {_OBJECT.OBJECT_SCHEMA, _OBJECT.OBJECT_TYPE, _OBJECT.OBJECT_DOMAIN}


def check(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    """Give what a statement takes away from older images."""
    if place.contract:
        return
    node: Any = statement.node
    match node:
        case ast.DropStmt() if node.removeType in _KINDS:
            for name in map(dotted, node.objects or ()):
                if not (_is_new(name, node.removeType, place, catalog) or _is_made_again(name, place)):
                    yield _dropped(_KINDS[node.removeType], name, place, locked=node.removeType in _LOCKED)
        case ast.DropdbStmt(dbname=str(database)):
            yield _dropped("database", Name(None, database), place, locked=False)
        case ast.AlterTableStmt():
            yield from _columns_dropped(node, place, catalog)
        case _:
            yield from _renames(node, place, catalog)


def _renames(node: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    match node:
        case ast.RenameStmt() if node.renameType in _KINDS:
            yield from _renamed(node, place, catalog)
        case ast.AlterEnumStmt() if node.oldVal:
            kind = dotted(node.typeName)
            if not catalog.type_is_new(kind, place.file):
                yield _rename_hit(f"the value {node.oldVal!r} of {kind} becomes {node.newVal!r}", place, ())
        case ast.AlterObjectSchemaStmt() if node.objectType in _KINDS:
            yield from _moved(node, place, catalog)


def _is_new(name: Name, kind: Any, place: StatementContext, catalog: Schema) -> bool:
    if kind in _TYPES:
        return catalog.type_is_new(name, place.file)
    return catalog.is_new(name, place.file)


def _is_made_again(name: Name, place: StatementContext) -> bool:
    """Whether the section creates a view of this name, as one does to change it."""
    for node in place.rest:
        match node:
            case ast.ViewStmt(view=made) | ast.CreateTableAsStmt(into=ast.IntoClause(rel=made)):
                if relation(made).same(name):
                    return True
    return False


def _contract(place: StatementContext) -> tuple[str, ...]:
    return (
        "-- first deploy images that do without it; then, in a migration that is marked so:",
        f"-- migrate:up contract compatible-from:{place.previous}",
        "-- (the revision that the first of those images expects)",
    )


def _dropped(kind: str, name: Name, place: StatementContext, *, locked: bool) -> Hit:
    text = f"pods of older images may still use the {kind} {name}"
    return Hit(DROP_WITHOUT_CONTRACT, text, _contract(place), (str(name),) if locked else ())


def _columns_dropped(node: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    table = relation(node.relation)
    for command in node.cmds or ():
        if command.subtype == enums.AlterTableType.AT_DropColumn and not catalog.is_new(table, place.file):
            text = f"pods of older images may still use the column {identifier(command.name)} of {table}"
            yield Hit(DROP_WITHOUT_CONTRACT, text, _contract(place), (str(table),))


def _renamed(node: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    kind = _KINDS[node.renameType]
    if node.relation is None:
        old = dotted(node.object) if node.object is not None else Name(None, node.subname or "")
        if not catalog.type_is_new(old, place.file):
            yield _rename_hit(f"the {kind} {old} becomes {identifier(node.newname)}", place, ())
        return
    table = relation(node.relation)
    if catalog.is_new(table, place.file) or catalog.type_is_new(table, place.file):
        return
    if node.renameType in {_OBJECT.OBJECT_COLUMN, _OBJECT.OBJECT_ATTRIBUTE}:
        text = f"the {kind} {identifier(node.subname)} of {table} becomes {identifier(node.newname)}"
    else:
        text = f"the {kind} {table} becomes {identifier(node.newname)}"
    yield _rename_hit(text, place, () if node.renameType == _OBJECT.OBJECT_ATTRIBUTE else (str(table),))


def _moved(node: Any, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    old = relation(node.relation) if node.relation is not None else dotted(node.object)
    if not _is_new(old, node.objectType, place, catalog):
        text = f"the {_KINDS[node.objectType]} {old} becomes {identifier(node.newschema)}.{identifier(old.name)}"
        yield _rename_hit(text, place, (str(old),) if node.relation is not None else ())


def _rename_hit(text: str, place: StatementContext, locks: tuple[str, ...]) -> Hit:
    return Hit(
        RENAME_WITHOUT_CONTRACT,
        f"{text}, and pods of older images use the old name",
        (
            "-- add the new one beside the old (a column, or a view of the new name), use it, and drop the old one;",
            *_contract(place),
        ),
        locks,
    )
