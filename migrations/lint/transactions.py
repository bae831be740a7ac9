"""Statements that do not fit the transaction that they run in, or the lack of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.indexes import OUTSIDE, concurrently
from migrations.lint.parser import walk
from migrations.lint.rule import Hit, Level, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.parser import ParsedStatement
    from migrations.lint.schema import Schema, StatementContext

CANNOT_RUN_IN_TRANSACTION = Rule(
    "cannot-run-in-transaction",
    Level.ERROR,
    "PostgreSQL refuses CONCURRENTLY, VACUUM, CREATE DATABASE and the like inside a transaction: the migration fails.",
    "https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY",
    None,
    ("ban-concurrent-index-creation-in-transaction", "add_index"),
    down=True,
    details=(
        "A migration runs in a transaction unless its up line says `transaction:false`. The rule applies "
        "to down sections too."
    ),
    safe=(
        "-- migrate:up transaction:false",
        "CREATE INDEX CONCURRENTLY users_email_idx ON users (email);",
    ),
)
CONCURRENTLY_NOT_ALONE = Rule(
    "concurrently-not-alone",
    Level.WARNING,
    "A CONCURRENTLY that fails beside other statements leaves a file half applied, since each commits by itself.",
    "https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY",
    details=(
        "Statements that may run twice are allowed beside it: IF [NOT] EXISTS, SET, VACUUM, ANALYZE, REINDEX, SELECT."
    ),
    safe=(
        "-- migrate:up transaction:false",
        "DROP INDEX CONCURRENTLY IF EXISTS users_email_idx;  -- what a failed try has left",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS users_email_idx ON users (email);",
    ),
)
TRANSACTION_CONTROL = Rule(
    "transaction-control",
    Level.ERROR,
    "BEGIN, COMMIT or ROLLBACK breaks the transaction in which a migration and its ledger row are committed together.",
    "https://www.postgresql.org/docs/current/sql-commit.html",
    None,
    ("transaction-nesting", "ban-uncommitted-transaction"),
    down=True,
    details=(
        "SAVEPOINT passes. With `transaction:false`, BEGIN … COMMIT passes and a BEGIN without COMMIT "
        "does not. The rule applies to down sections too."
    ),
    safe=("-- without it: the file runs in a transaction already",),
)
SET_SCOPE = Rule(
    "set-scope",
    Level.WARNING,
    "A SET outlives its migration and changes the ones after it; a SET LOCAL outside a transaction does nothing.",
    "https://www.postgresql.org/docs/current/sql-set.html",
    details=(
        "`ledgergate migrate up` takes settings back after such a migration; another tool that runs the same "
        "file in one session does not. `set_config(…, false)`, which pg_dump writes, counts too. A RESET in the "
        "same file clears the finding."
    ),
    safe=("SET LOCAL search_path = app;",),
)
ENUM_VALUE_USED = Rule(
    "enum-value-used",
    Level.ERROR,
    "A value that ALTER TYPE adds to an enum cannot be used in the same transaction: the migration fails.",
    "https://www.postgresql.org/docs/current/sql-altertype.html",
    details="A value of a type that the same file creates may be used at once.",
    safe=(
        "-- in a later migration:",
        "ALTER TABLE users ALTER COLUMN mood SET DEFAULT 'glad';",
    ),
)
RULES = (CANNOT_RUN_IN_TRANSACTION, CONCURRENTLY_NOT_ALONE, TRANSACTION_CONTROL, SET_SCOPE, ENUM_VALUE_USED)

_TRANS = enums.TransactionStmtKind
BEGINS = {_TRANS.TRANS_STMT_BEGIN, _TRANS.TRANS_STMT_START}
ENDS = {_TRANS.TRANS_STMT_COMMIT, _TRANS.TRANS_STMT_ROLLBACK, _TRANS.TRANS_STMT_PREPARE}
_WHOLE = {
    enums.ReindexObjectType.REINDEX_OBJECT_SCHEMA,
    enums.ReindexObjectType.REINDEX_OBJECT_SYSTEM,
    enums.ReindexObjectType.REINDEX_OBJECT_DATABASE,
}
_SETS = {
    enums.VariableSetKind.VAR_SET_VALUE,
    enums.VariableSetKind.VAR_SET_CURRENT,
    enums.VariableSetKind.VAR_SET_MULTI,
}
_RESETS = {enums.VariableSetKind.VAR_RESET, enums.VariableSetKind.VAR_SET_DEFAULT}


def check(statement: ParsedStatement, place: StatementContext, catalog: Schema) -> Iterator[Hit]:
    """Give what does not fit the transaction."""
    node = statement.node
    if place.transaction is not None and (what := _refused_inside(node)):
        yield Hit(
            CANNOT_RUN_IN_TRANSACTION,
            f"PostgreSQL refuses {what} inside a transaction, so the migration fails",
            (OUTSIDE, f"{statement.text};"),
        )
    elif concurrently(node) and not all(_repeatable(other) for other in place.rest if other is not node):
        yield Hit(
            CONCURRENTLY_NOT_ALONE,
            "if this fails, what stands above it is committed, and what stands below it is missing",
            ("-- in a migration of its own:", f"{statement.text};"),
        )
    match node:
        case ast.TransactionStmt():
            yield from _control(node, place)
        case ast.VariableSetStmt() | ast.SelectStmt():
            yield from _set(statement, place)
    if place.transaction is not None and not isinstance(node, ast.AlterEnumStmt):
        yield from _value_used(statement, place.transaction, catalog)


def _refused_inside(node: Any) -> str | None:  # noqa: PLR0911 - a table, in the form that patterns take
    if concurrently(node):
        return "CONCURRENTLY"
    match node:
        case ast.VacuumStmt(is_vacuumcmd=True):
            return "VACUUM"
        case ast.ReindexStmt() if node.kind in _WHOLE:
            return "REINDEX of a schema or a database"
        case ast.ClusterStmt(relation=None):
            return "CLUSTER of every table"
        case ast.CreatedbStmt() | ast.DropdbStmt():
            return "CREATE and DROP DATABASE"
        case ast.CreateTableSpaceStmt() | ast.DropTableSpaceStmt():
            return "CREATE and DROP TABLESPACE"
        case ast.AlterSystemStmt():
            return "ALTER SYSTEM"
        case _:
            return None


def _repeatable(node: Any) -> bool:
    """Whether a statement may run once more, when its file is run again after a failure."""
    match node:
        case ast.IndexStmt():
            return bool(node.if_not_exists)
        case ast.DropStmt():
            return bool(node.missing_ok)
        case ast.ReindexStmt() | ast.VacuumStmt() | ast.VariableSetStmt() | ast.SelectStmt() | ast.CommentStmt():
            return True
        case _:
            return False


def _control(node: Any, place: StatementContext) -> Iterator[Hit]:
    if node.kind not in BEGINS | ENDS:
        return
    verb = node.kind.name.removeprefix("TRANS_STMT_")
    if place.transactional:
        yield Hit(
            TRANSACTION_CONTROL,
            f"{verb} inside the transaction that also records the migration",
            ("-- without it: the file runs in a transaction already; or write -- migrate:up transaction:false",),
        )
    elif node.kind in BEGINS and not any(isinstance(n, ast.TransactionStmt) and n.kind in ENDS for n in place.rest):
        yield Hit(
            TRANSACTION_CONTROL, f"no COMMIT follows this {verb}, so nothing of it stays", ("COMMIT;  -- at its end",)
        )


def _set(statement: ParsedStatement, place: StatementContext) -> Iterator[Hit]:
    node = statement.node
    name, local = _variable(node)
    if name is None or name in {"transaction", "constraints"}:
        return
    if not local and not any(_undoes(other, name) for other in place.rest):
        inside = place.transaction is not None
        better = (
            f"SET LOCAL {statement.text[4:].strip()}"
            if isinstance(node, ast.VariableSetStmt)
            else f"SET LOCAL {name} = ..."
        )
        safe = f"{better};" if inside else f"RESET {name};  -- at the end of the file"
        yield Hit(SET_SCOPE, f"{name} stays set in the migrations that run after this one", (safe,))
    elif local and place.transaction is None:
        safe = f"SET {name} = ...;  -- and RESET {name}; at the end of the file"
        yield Hit(SET_SCOPE, f"SET LOCAL {name} outside a transaction does nothing", (safe,))


def _variable(node: Any) -> tuple[str | None, bool]:
    """Give the variable that a statement sets, and whether for its transaction only."""
    if isinstance(node, ast.VariableSetStmt):
        return (node.name.lower(), bool(node.is_local)) if node.name and node.kind in _SETS else (None, False)
    call = node.targetList[0].val if node.targetList and len(node.targetList) == 1 else None
    if isinstance(call, ast.FuncCall) and call.funcname and call.funcname[-1].sval == "set_config":
        match call.args:
            case (ast.A_Const(val=ast.String(sval=str(name))), _, ast.A_Const(val=ast.Boolean(boolval=local))):
                return name.lower(), bool(local)
    return None, False


def _undoes(node: Any, name: str) -> bool:
    return isinstance(node, ast.VariableSetStmt) and (
        node.kind == enums.VariableSetKind.VAR_RESET_ALL
        or (node.kind in _RESETS and node.name is not None and node.name.lower() == name)
    )


def _value_used(statement: ParsedStatement, transaction: int, catalog: Schema) -> Iterator[Hit]:
    for node in walk(statement.node):
        match node:
            case ast.A_Const(val=ast.String(sval=str(value))) if catalog.value_added_in(value) == transaction:
                text = (
                    f"the enum's value {value!r} is new in this transaction and cannot be used before it is committed"
                )
                safe = ("-- in a later migration, so in a transaction of its own:", f"{statement.text};")
                yield Hit(ENUM_VALUE_USED, text, safe)
                return
