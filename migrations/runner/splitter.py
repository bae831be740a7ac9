"""Cuts a script that runs outside a transaction into statements, by PostgreSQL's own grammar, and tells their natures.

Exception
└── NotCut   a script that the grammar refuses
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class SplitError(ValueError):
    """A script that the grammar refuses.

    Attributes:
        position: Where, in characters from 0.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class TransactionUse(Enum):
    """How a statement goes together with transactions."""

    PLAIN = auto()
    """Runs in a transaction, so that its progress can be committed with it."""
    SETTING = auto()
    """Changes the session; needed again by whoever goes on after it."""
    BLOCK = auto()
    """BEGIN, ROLLBACK, SAVEPOINT: the file's own transactions."""
    COMMIT = auto()
    """The end of one of these."""
    LONE = auto()
    """Refused in a transaction by PostgreSQL, or able to commit by itself."""


class IndexAction(Enum):
    """What a statement does to an index that it names, while others use the table."""

    CREATE = auto()
    REINDEX = auto()
    REINDEX_TABLE = auto()
    DROP = auto()


@dataclass(frozen=True, slots=True)
class IndexOperation:
    """An index that CONCURRENTLY may leave INVALID when it is interrupted.

    Attributes:
        work: What is done.
        schema: As written; None for the search path's.
        name: Of the index, or of the table of REINDEX TABLE; None where PostgreSQL is to choose it.
    """

    work: IndexAction
    schema: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Attributes:
        offset: Where it begins in the script, in characters.
        text: Without its semicolon.
        nature: How it goes together with transactions.
        repeatable: Whether it may run again when nobody knows whether it ended.
        atomic: Whether an error leaves nothing of it.
        index: What CONCURRENTLY may leave behind.
    """

    offset: int
    text: str
    nature: TransactionUse
    repeatable: bool = False
    atomic: bool = True
    index: IndexOperation | None = None


def split_statements(sql: str) -> tuple[Statement, ...]:
    """Cut a script into its statements.

    The server would run several of one message in one implicit transaction, which CREATE INDEX CONCURRENTLY refuses.
    Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT

    Raises:
        NotCut: The grammar refuses it.
    """
    from pglast import Error, parse_sql, split  # noqa: PLC0415 - slow to import, and few migrations need it

    try:
        slices = split(sql, only_slices=True)
        return tuple(_piece(at.start, sql[at], parse_sql(sql[at])[0].stmt) for at in slices)
    except Error as error:
        message, position = (*error.args, 0)[:2]
        raise SplitError(str(message), int(position)) from error


_MAY_END = re.compile(
    r"\b(commit|rollback|abort|prepare\s+transaction)\b|\bend\s*(;|\Z|work|transaction|and)", re.IGNORECASE
)
_ENDS = frozenset(("COMMIT", "ROLLBACK", "PREPARE"))


def find_transaction_end(sql: str) -> tuple[int, str] | None:
    """Find the first statement of a script that ends the transaction it runs in, `AND CHAIN` or not.

    Returns:
        Where it begins, in characters, and its words; None where there is none, or where the grammar refuses the
        script, as the server will.
    """
    if _MAY_END.search(sql) is None:
        return None  # nearly always: the grammar need not be loaded
    from pglast import Error, parse_sql, split  # noqa: PLC0415 - as above

    try:
        for at in split(sql, only_slices=True):
            statement = parse_sql(sql[at])[0].stmt
            kind = getattr(getattr(statement, "kind", None), "name", "")
            if type(statement).__name__ == "TransactionStmt" and kind.removeprefix("TRANS_STMT_") in _ENDS:
                return at.start, " ".join(sql[at].split())
    except Error:
        pass
    return None


# Statements that PostgreSQL refuses in a transaction (the callers of PreventInTransactionBlock), and whether each may
# run again: https://www.postgresql.org/docs/current/sql-commands.html, "cannot be executed inside a transaction block".
_LONE = {
    "CreatedbStmt": False,
    "DropdbStmt": False,
    "AlterDatabaseStmt": False,
    "CreateTableSpaceStmt": False,
    "DropTableSpaceStmt": False,
    "CreateSubscriptionStmt": False,
    "AlterSubscriptionStmt": False,
    "DropSubscriptionStmt": False,
    "AlterSystemStmt": True,
    "ClusterStmt": True,
    "DiscardStmt": True,
    "ReindexStmt": True,
}
_ENDS_TRANSACTIONS = re.compile(r"\b(commit|rollback)\b", re.IGNORECASE)
_SETS = re.compile(r"\bset_config\b", re.IGNORECASE)


def _piece(offset: int, text: str, stmt: Any) -> Statement:
    kind = type(stmt).__name__
    index = _index_work(kind, stmt)
    if index is not None:
        return Statement(offset, text, TransactionUse.LONE, repeatable=_missing_is_fine(stmt), index=index)
    if kind in _LONE:
        return Statement(offset, text, TransactionUse.LONE, repeatable=_LONE[kind])
    if kind == "VacuumStmt":
        return Statement(
            offset, text, TransactionUse.LONE if stmt.is_vacuumcmd else TransactionUse.PLAIN, repeatable=True
        )
    if kind == "CallStmt" or (kind == "DoStmt" and _ENDS_TRANSACTIONS.search(text)):
        return Statement(offset, text, TransactionUse.LONE, atomic=False)
    if kind == "AlterTableStmt" and any(getattr(command.def_, "concurrent", False) for command in stmt.cmds):
        return Statement(
            offset, text, TransactionUse.LONE, atomic=False
        )  # DETACH PARTITION … CONCURRENTLY, in two transactions
    return Statement(offset, text, _nature(kind, text, stmt))


def _nature(kind: str, text: str, stmt: Any) -> TransactionUse:
    if kind == "TransactionStmt":
        end = stmt.kind.name.removeprefix("TRANS_STMT_")
        lone = end in {"COMMIT_PREPARED", "ROLLBACK_PREPARED"}
        return TransactionUse.LONE if lone else TransactionUse.COMMIT if end == "COMMIT" else TransactionUse.BLOCK
    sets = (kind == "VariableSetStmt" and not stmt.is_local) or (kind == "SelectStmt" and _SETS.search(text))
    return TransactionUse.SETTING if sets else TransactionUse.PLAIN


def _index_work(kind: str, stmt: Any) -> IndexOperation | None:
    if kind == "IndexStmt" and stmt.concurrent:
        return IndexOperation(IndexAction.CREATE, stmt.relation.schemaname, stmt.idxname)
    if kind == "DropStmt" and stmt.concurrent:
        *schema, name = (part.sval for part in stmt.objects[0])
        return IndexOperation(IndexAction.DROP, schema[-1] if schema else None, name)
    if (
        kind == "ReindexStmt"
        and stmt.relation
        and any(option.defname == "concurrently" for option in stmt.params or ())
    ):
        work = IndexAction.REINDEX if stmt.kind.name == "REINDEX_OBJECT_INDEX" else IndexAction.REINDEX_TABLE
        return IndexOperation(work, stmt.relation.schemaname, stmt.relation.relname)
    return None


def _missing_is_fine(stmt: Any) -> bool:
    """Whether a statement on an index says what it wants rather than what it does."""
    return bool(
        getattr(stmt, "if_not_exists", False) or getattr(stmt, "missing_ok", False) or not hasattr(stmt, "concurrent")
    )
