"""Names that outlive a drop or a rename, because a statement of the same section gives them to another object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, qualified_name, relation_name

if TYPE_CHECKING:
    from migrations.lint.context import StatementContext

_OBJECT = enums.ObjectType
_AT = enums.AlterTableType


def keeps_name(name: Name, context: StatementContext) -> bool:
    """Return whether the section gives the name of a renamed table or type to another one, such as a view."""
    return any(made.matches(name) for node in context.section_nodes for made in _names(node, tables=True))


def is_made_again(name: Name, kind: Any, context: StatementContext, *, if_exists: bool = False) -> bool:
    """Return whether the section creates an object with the name of a dropped one, which is a way to change it.

    A table that is dropped and created again has lost its rows, so only a view counts in the place of a table. A table
    that no file creates and that is dropped IF EXISTS may be replaced by a table too. An object that the file has
    renamed before counts by its old name.

    Args:
        name: The object; a trigger is named `table.trigger`.
        kind: Its kind.
        context: Where the statement runs.
        if_exists: Whether the statement has IF EXISTS.
    """
    before = context.schema.name_before(name, context.file)
    if before != name.name:  # the file renamed it out of the way; the old name must be that of another object now
        old = Name(name.schema, before)
        return context.schema.table(old) is not None or context.schema.type(old) is not None
    if kind == _OBJECT.OBJECT_TRIGGER:
        triggers = (node for node in context.section_nodes if isinstance(node, ast.CreateTrigStmt))
        return any(Name(relation_name(node.relation).name, str(node.trigname)) == name for node in triggers)
    tables = kind != _OBJECT.OBJECT_TABLE or (if_exists and context.schema.table(name) is None)
    return any(made.matches(name) for node in context.section_nodes for made in _names(node, tables=tables))


def _names(node: Any, *, tables: bool) -> list[Name]:  # noqa: C901, PLR0911, PLR0912 - a table of statements, as patterns
    """Return the name that a statement gives to a new object or, by a rename, to an existing one."""
    match node:
        case ast.ViewStmt(view=created):
            return [relation_name(created)]
        case ast.CreateTableAsStmt(into=ast.IntoClause(rel=created)):
            is_view = node.objtype == _OBJECT.OBJECT_MATVIEW
            return [relation_name(created)] if tables or is_view else []
        case ast.CreateStmt() if tables:
            return [relation_name(node.relation)]
        case ast.CreateEnumStmt():
            return [qualified_name(node.typeName)]
        case ast.CompositeTypeStmt():
            return [relation_name(node.typevar)]
        case ast.CreateDomainStmt():
            return [qualified_name(node.domainname)]
        case ast.CreateFunctionStmt():
            return [qualified_name(node.funcname)]
        case ast.CreateSeqStmt():
            return [relation_name(node.sequence)]
        case ast.CreateSchemaStmt(schemaname=str(schema)):
            return [Name(None, schema)]
        case ast.CreateExtensionStmt():
            return [Name(None, str(node.extname))]
        case ast.RenameStmt(renameType=_OBJECT.OBJECT_TABLE, relation=ast.RangeVar() as relation) if tables:
            return [Name(relation.schemaname, str(node.newname))]
        case ast.RenameStmt(renameType=_OBJECT.OBJECT_SEQUENCE, relation=ast.RangeVar() as relation):
            return [Name(relation.schemaname, str(node.newname))]
        case ast.RenameStmt(renameType=_OBJECT.OBJECT_FUNCTION | _OBJECT.OBJECT_PROCEDURE | _OBJECT.OBJECT_ROUTINE):
            return [Name(None, str(node.newname))]
        case ast.RenameStmt(renameType=_OBJECT.OBJECT_TYPE | _OBJECT.OBJECT_VIEW | _OBJECT.OBJECT_DOMAIN):
            return [Name(None, str(node.newname))]
        case _:
            return []


def sets_default_again(table: Name, column: str, context: StatementContext) -> bool:
    """Return whether the section gives the column another default, or lets it be NULL."""
    for node in context.section_nodes:
        if not (isinstance(node, ast.AlterTableStmt) and relation_name(node.relation).matches(table)):
            continue
        for command in node.cmds or ():
            if command.name == column and (
                command.subtype in {_AT.AT_AddIdentity, _AT.AT_DropNotNull, _AT.AT_DropColumn}
                or (command.subtype == _AT.AT_ColumnDefault and command.def_ is not None)
            ):
                return True
    return False
