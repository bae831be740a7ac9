"""Statements that fail in a transaction, that need one, or that end one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast, enums

from migrations.lint.parser import qualified_name, walk
from migrations.lint.rule import OWN_MIGRATION, Level, Rule, Violation
from migrations.lint.rules.indexes import REINDEX_MANY, is_concurrent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrations.lint.context import StatementContext
    from migrations.lint.parser import ParsedStatement
    from migrations.lint.schema import Schema

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
    "A CONCURRENTLY that fails beside other statements leaves a file half applied: each statement commits by itself.",
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
    safe=("-- leave it out: the file runs in a transaction already",),
)
SET_SCOPE = Rule(
    "set-scope",
    Level.WARNING,
    "A SET stays in force until the session ends; a SET LOCAL outside a transaction does nothing.",
    "https://www.postgresql.org/docs/current/sql-set.html",
    details=(
        "`ledgergate migrate up` resets the session after every migration; another tool that runs later migrations "
        "in the same session does not. `set_config(…, false)`, which pg_dump writes, counts too. A RESET in the "
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
RELEASES_ALL_LOCKS = Rule(
    "releases-all-locks",
    Level.ERROR,
    "Releases every advisory lock of the session, also the one that keeps two runs from migrating at the same time.",
    "https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS",
    down=True,
    details=(
        "`ledgergate migrate up` fails at such a migration, except for DISCARD ALL, of which it runs the parts that "
        "keep its lock. Every migration begins in a session like new, so neither is needed. "
        "`pg_advisory_unlock(KEY)` passes. The rule applies to down sections too."
    ),
    safe=("SELECT pg_advisory_xact_lock(42);  -- ends with the transaction",),
)
RULES = (
    CANNOT_RUN_IN_TRANSACTION,
    CONCURRENTLY_NOT_ALONE,
    TRANSACTION_CONTROL,
    SET_SCOPE,
    ENUM_VALUE_USED,
    RELEASES_ALL_LOCKS,
)

_TRANS = enums.TransactionStmtKind
BEGINS = {_TRANS.TRANS_STMT_BEGIN, _TRANS.TRANS_STMT_START}
ENDS = {_TRANS.TRANS_STMT_COMMIT, _TRANS.TRANS_STMT_ROLLBACK, _TRANS.TRANS_STMT_PREPARE}
_SETS = {
    enums.VariableSetKind.VAR_SET_VALUE,
    enums.VariableSetKind.VAR_SET_CURRENT,
    enums.VariableSetKind.VAR_SET_MULTI,
}
_RESETS = {enums.VariableSetKind.VAR_RESET, enums.VariableSetKind.VAR_SET_DEFAULT}


def check(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    """Yield what is wrong with a statement in its transaction, or without one."""
    node = statement.node
    what = refused_in_transaction(node)
    if isinstance(node, ast.AlterEnumStmt) and not node.oldVal and context.is_before(12):
        what = "ALTER TYPE ... ADD VALUE"  # before PostgreSQL 12, and not for a type of the same transaction
        what = None if context.type_is_new(qualified_name(node.typeName)) else what
    if context.transaction is not None and what is not None:
        yield Violation(
            CANNOT_RUN_IN_TRANSACTION,
            f"PostgreSQL refuses {what} inside a transaction, so the migration fails",
            (OWN_MIGRATION, f"{statement.text};"),
        )
    elif is_concurrent(node) and not all(_repeatable(other) for other in context.section_nodes if other is not node):
        yield Violation(
            CONCURRENTLY_NOT_ALONE,
            "if this fails, the statements above it are committed and those below it have not run",
            ("-- in a migration of its own:", f"{statement.text};"),
        )
    match node:
        case ast.TransactionStmt():
            yield from _check_transaction_control(node, context)
        case ast.VariableSetStmt() | ast.SelectStmt():
            yield from _check_set(statement, context)
    if (what := _releases_all_locks(statement)) is not None:
        safe = ("-- leave it out, or release your own locks one by one: SELECT pg_advisory_unlock(KEY);",)
        yield Violation(RELEASES_ALL_LOCKS, f"{what} releases the lock that keeps other runs out", safe)
    if context.transaction is not None and not isinstance(node, ast.AlterEnumStmt):
        yield from _check_enum_value(statement, context.transaction, context.schema)


def _releases_all_locks(statement: ParsedStatement) -> str | None:
    node = statement.node
    if isinstance(node, ast.DiscardStmt) and node.target == enums.DiscardMode.DISCARD_ALL:
        return "DISCARD ALL"
    if isinstance(node, ast.DoStmt) and "pg_advisory_unlock_all" in statement.text.lower():
        return "pg_advisory_unlock_all()"
    if "pg_advisory_unlock_all" not in statement.text.lower():
        return None
    for part in walk(node):
        if isinstance(part, ast.FuncCall) and part.funcname and part.funcname[-1].sval == "pg_advisory_unlock_all":
            return "pg_advisory_unlock_all()"
    return None


def refused_in_transaction(node: Any) -> str | None:  # noqa: PLR0911 - a table of statements, as patterns
    """Return what messages call a statement that PostgreSQL refuses inside a transaction; None for any other.

    Source: the calls of `PreventInTransactionBlock` in PostgreSQL, for the statements that migrations use
    """
    if is_concurrent(node):
        return "CONCURRENTLY"
    match node:
        case ast.VacuumStmt(is_vacuumcmd=True):
            return "VACUUM"
        case ast.ReindexStmt() if node.kind in REINDEX_MANY:
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


def is_neutral(node: Any) -> bool:
    """Return whether Flyway counts a statement neither as transactional nor as non-transactional.

    Flyway refuses a file that mixes the two, unless its setting `mixed` allows that.
    """
    return isinstance(node, ast.VariableSetStmt | ast.CommentStmt)


def _repeatable(node: Any) -> bool:
    """Return whether a statement may run twice, as it does when its file is run again after a failure."""
    match node:
        case ast.IndexStmt():
            return bool(node.if_not_exists)
        case ast.DropStmt():
            return bool(node.missing_ok)
        case ast.ReindexStmt() | ast.VacuumStmt() | ast.VariableSetStmt() | ast.SelectStmt() | ast.CommentStmt():
            return True
        case _:
            return False


def _check_transaction_control(node: Any, context: StatementContext) -> Iterator[Violation]:
    if node.kind not in BEGINS | ENDS:
        return
    verb = node.kind.name.removeprefix("TRANS_STMT_")
    if context.transactional:
        yield Violation(
            TRANSACTION_CONTROL,
            f"{verb} inside the transaction that also records the migration",
            ("-- leave it out: the file runs in a transaction already; or use -- migrate:up transaction:false",),
        )
    elif node.kind in BEGINS and not any(map(_ends_transaction, context.section_nodes)):
        text = f"no COMMIT follows this {verb}, so PostgreSQL rolls it back"
        yield Violation(TRANSACTION_CONTROL, text, ("COMMIT;  -- at the end of the file",))


def _ends_transaction(node: Any) -> bool:
    return isinstance(node, ast.TransactionStmt) and node.kind in ENDS


def _check_set(statement: ParsedStatement, context: StatementContext) -> Iterator[Violation]:
    node = statement.node
    name, local = _variable_set(node)
    if name is None or name in {"transaction", "constraints"}:
        return
    if not local and not any(_resets(other, name) for other in context.section_nodes):
        in_transaction = context.transaction is not None
        set_local = (
            f"SET LOCAL {statement.text[4:].strip()}"  # without its SET
            if isinstance(node, ast.VariableSetStmt)
            else f"SET LOCAL {name} = ..."
        )
        safe = f"{set_local};" if in_transaction else f"RESET {name};  -- at the end of the file"
        yield Violation(
            SET_SCOPE, f"{name} stays set after this migration, until it is reset or the session ends", (safe,)
        )
    elif local and context.transaction is None:
        safe = f"SET {name} = ...;  -- and RESET {name}; at the end of the file"
        yield Violation(SET_SCOPE, f"SET LOCAL {name} outside a transaction does nothing", (safe,))


def _variable_set(node: Any) -> tuple[str | None, bool]:
    """Return the variable that a statement sets, and whether for its transaction only."""
    if isinstance(node, ast.VariableSetStmt):
        return (node.name.lower(), bool(node.is_local)) if node.name and node.kind in _SETS else (None, False)
    call = node.targetList[0].val if node.targetList and len(node.targetList) == 1 else None
    if isinstance(call, ast.FuncCall) and call.funcname and call.funcname[-1].sval == "set_config":
        match call.args:
            case (ast.A_Const(val=ast.String(sval=str(name))), _, ast.A_Const(val=ast.Boolean(boolval=local))):
                return name.lower(), bool(local)
    return None, False


def _resets(node: Any, name: str) -> bool:
    return isinstance(node, ast.VariableSetStmt) and (
        node.kind == enums.VariableSetKind.VAR_RESET_ALL
        or (node.kind in _RESETS and node.name is not None and node.name.lower() == name)
    )


def _check_enum_value(statement: ParsedStatement, transaction: int, schema: Schema) -> Iterator[Violation]:
    # To walk every statement is slow, and few transactions add a value.
    for node in walk(statement.node) if schema.adds_values_in(transaction) else ():
        match node:
            case ast.A_Const(val=ast.String(sval=str(value))) if schema.value_added_in(value) == transaction:
                text = f"the enum value {value!r} is new in this transaction and cannot be used before it is committed"
                safe = ("-- in a later migration, so in a transaction of its own:", f"{statement.text};")
                yield Violation(ENUM_VALUE_USED, text, safe)
                return
