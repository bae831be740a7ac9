"""Statements that forbid what older images may still do, outside a migration that is marked `contract`.

A pod of an older image may write NULL, a second row with the same value or a longer text, or need a privilege that is
revoked. Where the files show that it fails, that is an error. Where it depends on what the images write, which no file
shows, it is a warning, or advice where it seldom happens. New tables and columns, which no older image knows, may have
constraints, except NOT NULL on a column without a default.

Source: https://www.postgresql.org/docs/current/sql-altertable.html. The same statements are errors of
django-migration-linter (`NOT_NULL`, `ADD_UNIQUE`, `ALTER_COLUMN`), which asks the same question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import Name, column_list, columns_of, qualified_name, quote_ident, relation_name, to_sql
from migrations.lint.rule import ALTER_TABLE, Level, Rule, Violation
from migrations.lint.rules.columns import NOT_NULL_WITHOUT_DEFAULT
from migrations.lint.rules.drops import contract_way
from migrations.lint.survivors import sets_default_again
from migrations.lint.table_changes import columns_not_null
from migrations.lint.types import SERIAL, base_name, is_compatible, sql_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement

NARROW_WITHOUT_CONTRACT = Rule(
    "narrow-without-contract",
    Level.ERROR,
    "A column gets a type that refuses values of older images, or that they read as something else.",
    ALTER_TABLE,
    None,
    ("changing-column-type", "change_column"),
    details=(
        "A type of the same family that takes every value of the old one passes: `integer` to `bigint`, a longer "
        "`varchar`, `varchar` to `text`, a higher precision, `json` to `jsonb`, `timestamp` to `timestamptz`. Where no "
        "file shows the old type, only type-change reports it. It counts beside type-change, which is about the lock."
    ),
    safe=(
        "ALTER TABLE users ADD COLUMN code_new integer;",
        "-- write both from the application (or a trigger), fill it in batches, and read code_new;",
        "-- then drop code in a contract migration",
    ),
)
CONSTRAINT_WITHOUT_CONTRACT = Rule(
    "constraint-without-contract",
    Level.WARNING,
    "NOT NULL, CHECK, UNIQUE or EXCLUDE refuses rows that pods of older images may still write.",
    ALTER_TABLE,
    details=(
        "NOT VALID does not help: it leaves existing rows alone and refuses new ones at once. Lint cannot know what "
        "the images write. If every image that runs, or may be rolled back to, satisfies the constraint, allow it with "
        "that reason. Else mark the migration `contract compatible-from:REV`, with the revision of the first image "
        "that does. New tables pass, and columns that the same file adds; so does NOT NULL of a column with a default, "
        "and what an earlier constraint or unique index ensures already. A column that the same file adds without a "
        "default, and then makes NOT NULL, is not-null-without-default, unless a trigger may fill it."
    ),
    safe=(
        "-- first deploy images that fill name; then:",
        "-- migrate:up contract compatible-from:20250126120000_fill_name",
        "ALTER TABLE users ADD CONSTRAINT users_name_is_not_null CHECK (name IS NOT NULL) NOT VALID;",
    ),
)
REVOKE_WITHOUT_CONTRACT = Rule(
    "revoke-without-contract",
    Level.WARNING,
    "Pods of older images may still need a right that is revoked, or rows that row level security hides.",
    "https://www.postgresql.org/docs/current/sql-revoke.html",
    details=(
        "REVOKE of a right to read, write, use or execute, REVOKE and DROP of a role, ENABLE and FORCE ROW LEVEL "
        "SECURITY, DROP POLICY, OWNER TO. No file shows as which role the images log in: if it is another one, allow "
        "it with that reason. What the same file creates passes, and a policy that it creates again."
    ),
    safe=(
        "-- first deploy images that do not need the right; then:",
        "-- migrate:up contract compatible-from:20250126120000_read_by_view",
        "REVOKE SELECT ON users FROM app;",
    ),
)
MAY_NEED_CONTRACT = Rule(
    "may-need-contract",
    Level.ADVICE,
    "A foreign key, GENERATED ALWAYS or the end of a unique index may fail what pods of older images write.",
    ALTER_TABLE,
    details=(
        "A FOREIGN KEY, NOT VALID too, refuses rows without a parent, and the deletion of parents. GENERATED ALWAYS AS "
        "IDENTITY refuses INSERTs that give the number. ON CONFLICT needs the unique index of its columns. Most "
        "images do none of this, so it is shown only with `--advice`."
    ),
    safe=("-- look at what the images that still run write; if one may fail, mark the migration `contract`",),
)
RULES = (NARROW_WITHOUT_CONTRACT, CONSTRAINT_WITHOUT_CONTRACT, REVOKE_WITHOUT_CONTRACT, MAY_NEED_CONTRACT)

_OBJECT = enums.ObjectType
_AT = enums.AlterTableType
_KIND = enums.ConstrType
_ALWAYS = "a"  # ATTRIBUTE_IDENTITY_ALWAYS in PostgreSQL's pg_attribute.h
_USED = frozenset(("select", "insert", "update", "delete", "usage", "execute", "connect"))
"""Privileges that an application uses; the others, such as CREATE and TRIGGER, serve those that change the schema."""
_SECURES = {
    _AT.AT_EnableRowSecurity: "ENABLE ROW LEVEL SECURITY hides every row from roles that no policy names",
    _AT.AT_ForceRowSecurity: "FORCE ROW LEVEL SECURITY applies the policies to the owner too",
    _AT.AT_ChangeOwner: "OWNER TO takes the rights of the former owner",
}


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield what a statement forbids that older images may still do."""
    if context.contract:
        return
    node: Any = statement.node
    match node:
        case ast.AlterTableStmt(objtype=_OBJECT.OBJECT_TABLE) if not context.is_new(relation_name(node.relation)):
            for command in node.cmds or ():
                yield from _check_command(relation_name(node.relation), command, context)
        case ast.IndexStmt(unique=True) if not context.is_new(relation_name(node.relation)):
            yield from _check_unique_index(node, context)
        case ast.DropStmt(removeType=_OBJECT.OBJECT_INDEX):
            for parts in node.objects or ():
                yield from _check_unique_gone(qualified_name(parts), context)
        case ast.AlterDomainStmt(subtype="C" | "O") if not context.type_is_new(qualified_name(node.typeName)):
            yield _constrained(f"the domain {qualified_name(node.typeName)} refuses more values", context)
        case _:
            yield from _check_rights(node, context)


def _check_command(table: Name, command: Any, context: StatementContext) -> Iterator[Violation]:
    match command.subtype:
        case _AT.AT_SetNotNull:
            yield from _check_not_null(table, command.name, context)
        case _AT.AT_AddConstraint:
            yield from _check_constraint(table, command.def_, context)
        case _AT.AT_AlterColumnType if _added(table, command.name, context) is None:
            yield from _check_type(table, command, context)
        case _AT.AT_AddIdentity if getattr(command.def_, "generated_when", None) == _ALWAYS:
            if _added(table, command.name, context) is None:
                yield _may_need(
                    f"INSERTs of older images that give {quote_ident(command.name)} of {table} fail", context
                )
        case _AT.AT_DropConstraint:
            yield from _check_unique_gone(Name(table.schema, command.name), context)
        case kind if kind in _SECURES:
            yield _revoked(f"{_SECURES[kind]}: older images may still need access to {table}", context)


def _check_type(table: Name, command: Any, context: StatementContext) -> Iterator[Violation]:
    old, new = context.schema.column_type(table, command.name), sql_type(command.def_.typeName)
    if old is None or is_compatible(context.schema.base_type(old), context.schema.base_type(new)):
        return
    if {old.name.name, new.name.name} & _renamed_types(context):
        return  # a swap, the usual way to remove a value of an enum: older images find the new type by the old name
    yield Violation(
        NARROW_WITHOUT_CONTRACT,
        f"{quote_ident(command.name)} of {table} changes from {old} to {new}: values that older images write may be "
        "refused, or be read by them as something else",
        (
            "-- add a column of the new type beside it, write both, and drop the old one. Or, to change it in place:",
            *contract_way(context),
        ),
    )


def _renamed_types(context: StatementContext) -> set[str]:
    """Return the old and the new names of the types that the section renames."""
    kinds = {_OBJECT.OBJECT_TYPE, _OBJECT.OBJECT_DOMAIN}
    renames = [node for node in context.section_nodes if isinstance(node, ast.RenameStmt) and node.renameType in kinds]
    return {name for node in renames for name in (qualified_name(node.object).name, str(node.newname))}


def _check_not_null(table: Name, column: str, context: StatementContext) -> Iterator[Violation]:
    """Yield what is wrong with a column that refuses NULL from now on."""
    known, added, name = (
        context.schema.table(table),
        _added(table, column, context),
        f"{quote_ident(column)} of {table}",
    )
    if known is not None and (
        known.refuses_null(column) or (column in known.columns and known.column(column).has_default)
    ):
        return
    if (added is not None and _keeps_default(table, added, context)) or sets_default_again(table, column, context):
        return
    if added is None:
        yield _constrained(f"{name} refuses NULL", context)
    elif not _may_be_filled(table, context):
        yield Violation(
            NOT_NULL_WITHOUT_DEFAULT,
            f"older images do not know {name}, so that their INSERTs fail once it is NOT NULL without a default",
            (
                f"ALTER TABLE {table} ALTER COLUMN {quote_ident(column)} SET DEFAULT ...;",
                "-- or, when no image runs that does not fill it, in a later migration: proceed as not-null-scan says",
            ),
        )


def _check_constraint(table: Name, constraint: Any, context: StatementContext) -> Iterator[Violation]:
    match constraint.contype:
        case _KIND.CONSTR_NOTNULL:
            for key in constraint.keys or ():
                yield from _check_not_null(table, key.sval, context)
        case _KIND.CONSTR_CHECK if constraint.is_enforced:
            yield from _check_check(table, constraint.raw_expr, context)
        case _KIND.CONSTR_UNIQUE | _KIND.CONSTR_PRIMARY:
            yield from _check_unique(table, constraint, context)
        case _KIND.CONSTR_EXCLUSION:
            yield _constrained(f"{table} refuses rows that its EXCLUDE constraint finds in conflict", context)
        case _KIND.CONSTR_FOREIGN if constraint.is_enforced:
            if not all(_added(table, key.sval, context) for key in constraint.fk_attrs or ()):
                text = f"a foreign key of {table} refuses rows without a parent, and the deletion of a parent"
                yield _may_need(text, context)


def _check_check(table: Name, expression: Any, context: StatementContext) -> Iterator[Violation]:
    columns = columns_of(expression)
    if _is_only_not_null(expression):
        for column in sorted(columns_not_null(expression)):
            yield from _check_not_null(table, column, context)
    elif not _has_check(table, expression, context) and not (
        columns and all(_added(table, c, context) for c in columns)
    ):
        yield _constrained(f"{table} refuses rows that do not satisfy {to_sql(expression)}", context)


def _has_check(table: Name, expression: Any, context: StatementContext) -> bool:
    """Return whether the table has a CHECK of the same expression, which refuses the same rows even if it is NOT VALID.

    Adding the CHECK again, without NOT VALID, is another way to validate it.
    """
    known, text = context.schema.table(table), to_sql(expression)
    checks = [each.expression for each in known.constraints.values() if each.expression] if known else []
    return any(to_sql(check) == text for check in checks)


def _is_only_not_null(expression: Any) -> bool:
    match expression:
        case ast.BoolExpr(boolop=enums.BoolExprType.AND_EXPR, args=(_, *_) as parts):
            return all(map(_is_only_not_null, parts))
        case _:
            return bool(columns_not_null(expression))


def _check_unique(table: Name, constraint: Any, context: StatementContext) -> Iterator[Violation]:
    keys = tuple(key.sval for key in constraint.keys or ())
    if constraint.indexname:
        index = context.schema.index(Name(table.schema, constraint.indexname))
        keys = index.keys if index else ()
    else:
        yield from _check_unique_keys(table, keys, column_list(constraint.keys), context)
    if constraint.contype == _KIND.CONSTR_PRIMARY:
        for key in keys:
            yield from _check_not_null(table, key, context)


def _check_unique_index(node: Any, context: StatementContext) -> Iterator[Violation]:
    table = relation_name(node.relation)
    if node.if_not_exists and node.idxname and context.schema.index(Name(table.schema, node.idxname)):
        return
    parts = [param.name or f"({to_sql(param.expr)})" for param in node.indexParams or ()]
    keys = tuple(param.name for param in node.indexParams or () if param.name)
    named = ", ".join(quote_ident(part) if part in keys else part for part in parts)
    yield from _check_unique_keys(table, keys, named, context)


def _check_unique_keys(
    table: Name, keys: tuple[str, ...], named: str, context: StatementContext
) -> Iterator[Violation]:
    known = context.schema.table(table)
    if known is not None and known.ensures_unique(keys):
        return
    # A column that older images do not know is NULL in their rows, and NULL is not equal to NULL.
    if any((added := _added(table, key, context)) is not None and not _fills_itself(added) for key in keys):
        return
    yield _constrained(f"{table} refuses a second row with the same ({named})", context)


def _check_unique_gone(index: Name, context: StatementContext) -> Iterator[Violation]:
    """Yield advice where a unique index, or the constraint of one, is dropped: ON CONFLICT fails without it."""
    known, owner = context.schema.index(index), context.schema.table_of_index(index)
    if known is None or owner is None or not known.unique or context.is_new(owner):
        return
    table = context.schema.table(owner)
    if table is not None and not table.ensures_unique(known.keys, without=index.name):
        yield _may_need(f"ON CONFLICT of older images may need {quote_ident(index.name)} of {owner}", context)


def _check_rights(node: Any, context: StatementContext) -> Iterator[Violation]:
    match node:
        case ast.GrantStmt(is_grant=False, grant_option=False):
            yield from _check_revoke(node, context)
        case ast.GrantRoleStmt(is_grant=False):
            roles = ", ".join(quote_ident(role.priv_name) for role in node.granted_roles or ())
            yield _revoked(f"{_grantees(node.grantee_roles)} loses the rights of {roles}", context)
        case ast.DropRoleStmt():
            yield _revoked(f"{_grantees(node.roles)} is dropped: older images may log in as it", context)
        case ast.DropStmt(removeType=_OBJECT.OBJECT_POLICY):
            for parts in node.objects or ():
                table, policy = qualified_name(parts[:-1]), parts[-1].sval
                if not (context.is_new(table) or _makes_policy_again(table, policy, context)):
                    text = f"older images may see no row of {table} without the policy {quote_ident(policy)}"
                    yield _revoked(text, context)


def _check_revoke(node: Any, context: StatementContext) -> Iterator[Violation]:
    rights = [right.priv_name or "all" for right in node.privileges or ()] or ["all"]
    used = [right for right in rights if right in _USED or right == "all"]
    objects = [_object(each) for each in node.objects or ()]
    if used and not all(_is_new(node, name, context) for name in objects):
        text = f"{_grantees(node.grantees)} loses {', '.join(used)} on {', '.join(map(str, objects))}"
        yield _revoked(text, context)


def _object(node: Any) -> Name:
    return relation_name(node) if isinstance(node, ast.RangeVar) else qualified_name(node)


def _is_new(node: Any, name: Name, context: StatementContext) -> bool:
    if node.targtype != enums.GrantTargetType.ACL_TARGET_OBJECT:
        return False
    if node.objtype in {_OBJECT.OBJECT_FUNCTION, _OBJECT.OBJECT_PROCEDURE, _OBJECT.OBJECT_ROUTINE}:
        return context.schema.function_is_new(name, context.file)
    return context.is_new(name) or context.type_is_new(name)


def _grantees(roles: Any) -> str:
    names = (quote_ident(role.rolename) if role.rolename else "PUBLIC" for role in roles or ())
    return ", ".join(names)


def _makes_policy_again(table: Name, policy: str, context: StatementContext) -> bool:
    made = (node for node in context.section_nodes if isinstance(node, ast.CreatePolicyStmt))
    return any(node.policy_name == policy and relation_name(node.table).matches(table) for node in made)


def _added(table: Name, column: str, context: StatementContext) -> Any:
    """Return the definition of a column that the section adds, so that no older image knows it; None for another."""
    for node in context.section_nodes:
        if isinstance(node, ast.AlterTableStmt) and relation_name(node.relation).matches(table):
            for command in node.cmds or ():
                if command.subtype == _AT.AT_AddColumn and command.def_.colname == column:
                    return command.def_
    return None


def _keeps_default(table: Name, definition: Any, context: StatementContext) -> bool:
    """Return whether a column that the section adds fills itself, and no statement of the section drops its default."""
    if not _fills_itself(definition):
        return False
    altered = (
        node
        for node in context.section_nodes
        if isinstance(node, ast.AlterTableStmt) and relation_name(node.relation).matches(table)
    )
    return not any(
        command.subtype == _AT.AT_ColumnDefault and command.def_ is None and command.name == definition.colname
        for node in altered
        for command in node.cmds or ()
    )


def _fills_itself(definition: Any) -> bool:
    kinds = {constraint.contype for constraint in definition.constraints or ()}
    fills = {_KIND.CONSTR_DEFAULT, _KIND.CONSTR_IDENTITY, _KIND.CONSTR_GENERATED}
    return bool(kinds & fills) or (definition.typeName is not None and base_name(definition.typeName) in SERIAL)


def _may_be_filled(table: Name, context: StatementContext) -> bool:
    """Return whether the section creates a trigger of the table, or a function of one, which may fill the column."""
    return any(
        isinstance(node, ast.CreateFunctionStmt)
        or (isinstance(node, ast.CreateTrigStmt) and relation_name(node.relation).matches(table))
        for node in context.section_nodes
    )


def _constrained(text: str, context: StatementContext) -> Violation:
    return Violation(
        CONSTRAINT_WITHOUT_CONTRACT, f"{text} from now on, which pods of older images may still write", _either(context)
    )


def _revoked(text: str, context: StatementContext) -> Violation:
    return Violation(REVOKE_WITHOUT_CONTRACT, text, _either(context))


def _may_need(text: str, context: StatementContext) -> Violation:
    return Violation(MAY_NEED_CONTRACT, text, _either(context))


def _either(context: StatementContext) -> tuple[str, ...]:
    return (
        "-- if no image that runs does, or may be rolled back to: allow it with that reason. Else:",
        *contract_way(context),
    )
