"""Contract migrations that a rollout in two phases cannot leave for its end, or that add what images wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, qualified_name, quote_ident, relation_name
from migrations.lint.rule import Level, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement

CONTRACT_NOT_LAST = Rule(
    "contract-not-last",
    Level.ERROR,
    "New images need a contract migration, so the expand phase applies it while pods of older images still run.",
    "docs/expand-contract.md",
    details=(
        "An expand migration follows it, or its `compatible-from` is newer than all before it. So it cannot wait until "
        "the pods of older images are gone, and those are not gone before new ones start. It is reported where lint "
        "knows the change: with `--since`, or where files are named. In the whole history of a directory the order is "
        "usual, since a later release expands again."
    ),
    safe=("-- give the contract migration the newest timestamp of the change, or leave it for the next one",),
)
EXPAND_IN_CONTRACT = Rule(
    "expand-in-contract",
    Level.WARNING,
    "A contract migration adds a table, view, column or enum value, and new images start before it is there.",
    "docs/expand-contract.md",
    details=(
        "An image does not need the contract migrations at the end of its directory, so its pods start before they "
        "are applied. Only those at the end are checked. What takes the place of an object that the same file drops or "
        "renames passes, and so do temporary tables, partitions and CREATE TABLE AS, which keeps what is dropped."
    ),
    safe=(
        "-- in a migration of its own, before the contract migration:",
        "ALTER TABLE users ADD COLUMN full_name text;",
    ),
)
RULES = (CONTRACT_NOT_LAST, EXPAND_IN_CONTRACT)

_OBJECT = enums.ObjectType
_RELATIONS = {
    _OBJECT.OBJECT_TABLE: "table",
    _OBJECT.OBJECT_VIEW: "view",
    _OBJECT.OBJECT_MATVIEW: "materialized view",
}
_AT = enums.AlterTableType


def contract_not_last(compatible_from: str, follower: str | None) -> Violation:
    """Return the violation of a contract migration that its own image needs.

    Args:
        compatible_from: The oldest revision whose images can run with it.
        follower: Revision of the first expand migration behind it; None where `compatible_from` is newer than what an
            image would need without it.
    """
    if follower is None:
        text = (
            f"an image that does not need this contract migration is older than its compatible-from:{compatible_from}"
        )
        safe = (
            "-- first deploy images that can run with and without it, with a migration that only they need;",
            "-- then name that migration by compatible-from",
        )
    else:
        text = f"{follower} comes after this contract migration, and new images need it"
        safe = (
            f"-- give this file a newer timestamp than {follower}: contract migrations come last in a change",
            "-- or leave it for the next change",
        )
    return Violation(
        CONTRACT_NOT_LAST, f"{text}, so the expand phase applies it, while pods of older images still run", safe
    )


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield what a contract migration adds that images do not wait for."""
    if not context.deferred:
        return
    node: Any = statement.node
    match node:
        case ast.CreateStmt(partbound=None, relation=ast.RangeVar(relpersistence="p" | "u")):
            if not (node.if_not_exists and context.schema.table(relation_name(node.relation))):
                yield from _check_relation(_OBJECT.OBJECT_TABLE, relation_name(node.relation), statement, context)
        case ast.ViewStmt(view=ast.RangeVar(relpersistence="p")) if not node.replace:
            yield from _check_relation(_OBJECT.OBJECT_VIEW, relation_name(node.view), statement, context)
        case ast.CreateTableAsStmt(objtype=_OBJECT.OBJECT_MATVIEW, into=ast.IntoClause(rel=created)):
            yield from _check_relation(_OBJECT.OBJECT_MATVIEW, relation_name(created), statement, context)
        case ast.AlterTableStmt() if not context.is_new(relation_name(node.relation)):
            yield from _check_columns(node, statement, context)
        case ast.AlterEnumStmt(oldVal=None) if not context.type_is_new(qualified_name(node.typeName)):
            yield _violation(f"the value {node.newVal!r} of {qualified_name(node.typeName)}", statement)


def _check_relation(
    kind: Any, name: Name, statement: ParsedStatement, context: StatementContext
) -> Iterator[Violation]:
    if not any(name.matches(gone) for node in context.section_nodes for gone in _relations_gone(node)):
        yield _violation(f"the {_RELATIONS[kind]} {name}", statement)


def _check_columns(node: Any, statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    table = relation_name(node.relation)
    for command in node.cmds or ():
        if command.subtype != _AT.AT_AddColumn or context.adds_nothing(table, command):
            continue
        name = command.def_.colname
        if not any(name in _columns_gone(other, table) for other in context.section_nodes):
            yield _violation(f"the column {quote_ident(name)} of {table}", statement)


def _relations_gone(node: Any) -> list[Name]:
    """Return the relations whose name a statement frees."""
    match node:
        case ast.DropStmt() if node.removeType in _RELATIONS:
            return [qualified_name(parts) for parts in node.objects or ()]
        case ast.RenameStmt(relation=ast.RangeVar() as relation) if node.renameType in _RELATIONS:
            return [relation_name(relation)]
        case _:
            return []


def _columns_gone(node: Any, table: Name) -> set[str]:
    """Return the columns of a table whose name a statement frees."""
    match node:
        case ast.AlterTableStmt() if table.matches(relation_name(node.relation)):
            return {command.name for command in node.cmds or () if command.subtype == _AT.AT_DropColumn}
        case ast.RenameStmt(renameType=_OBJECT.OBJECT_COLUMN) if table.matches(relation_name(node.relation)):
            return {str(node.subname)}
        case _:
            return set()


def _violation(what: str, statement: ParsedStatement) -> Violation:
    return Violation(
        EXPAND_IN_CONTRACT,
        f"images do not wait for the contract migrations at the end, so their pods start before {what} is there",
        ("-- in a migration of its own, before this one:", f"{statement.text};"),
    )
