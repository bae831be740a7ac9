"""Splitting a script into statements by PostgreSQL's own grammar, and how each statement relates to transactions.

ValueError
└── SplitError   a script that the grammar rejects
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any


class SplitError(ValueError):
    """A script that the grammar rejects.

    Attributes:
        position: Where, in characters from 0.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class TransactionUse(Enum):
    """How a statement relates to transactions."""

    TRANSACTIONAL = auto()
    """May run in a transaction, so its progress can be committed with it."""
    SESSION_SETTING = auto()
    """Changes the session; a run that resumes after it must run it again."""
    CONTROL = auto()
    """BEGIN, ROLLBACK or SAVEPOINT: part of the file's own transactions."""
    COMMIT = auto()
    """The end of the file's own transaction."""
    NON_TRANSACTIONAL = auto()
    """Refused by PostgreSQL in a transaction, or able to commit by itself."""


class IndexAction(Enum):
    """What a CONCURRENTLY statement does to an index."""

    CREATE = auto()
    REINDEX = auto()
    REINDEX_TABLE = auto()
    DROP = auto()


@dataclass(frozen=True, slots=True)
class IndexOperation:
    """A CONCURRENTLY statement, which leaves an INVALID index when it is interrupted.

    Attributes:
        action: What it does.
        schema: The schema as written; None for the search path.
        name: Name of the index, or of the table for REINDEX TABLE; None where PostgreSQL chooses the name.
    """

    action: IndexAction
    schema: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class SessionObject:
    """Something that lives in a session and ends with it.

    Attributes:
        kind: What it is, as a message calls it.
        name: Its name; empty where it has none, or where the statement does not show it.
    """

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a script.

    Attributes:
        offset: Where it begins in the script, in characters from 0.
        text: The statement without its semicolon.
        transaction_use: How it relates to transactions.
        repeatable: Whether it may run again when it is unknown whether it was completed.
        atomic: Whether a failure leaves no effect of it, apart from an INVALID index.
        index: The index that it works on with CONCURRENTLY; None for any other statement.
        discards_all: Whether it is DISCARD ALL.
        makes: What it makes that ends with the session.
        removes: What of this it removes; an empty name stands for every object of the kind, an empty kind for all.
    """

    offset: int
    text: str
    transaction_use: TransactionUse
    repeatable: bool = False
    atomic: bool = True
    index: IndexOperation | None = None
    discards_all: bool = False
    makes: tuple[SessionObject, ...] = ()
    removes: tuple[SessionObject, ...] = ()


def split_statements(sql: str) -> tuple[Statement, ...]:
    """Split a script into its statements.

    Sent as one message, the server would run them in one implicit transaction, which CREATE INDEX CONCURRENTLY refuses.
    Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT

    Raises:
        SplitError: The grammar rejects the script.
    """
    from pglast import Error, parse_sql, split  # noqa: PLC0415 - slow to import, and few migrations need it

    try:
        slices = split(sql, only_slices=True)
        parsed = ((at.start, sql[at], parse_sql(sql[at])[0].stmt) for at in slices)
        return tuple(
            replace(_to_statement(offset, text, node), makes=_made(text, node), removes=_removed(text, node))
            for offset, text, node in parsed
        )
    except Error as error:
        message, position = (*error.args, None)[:2]  # without a position, the script ends too early
        raise SplitError(str(message), len(sql.rstrip()) if position is None else int(position)) from error
    except RecursionError as error:
        raise SplitError("nested too deeply to be parsed", 0) from error


# Statements that PostgreSQL refuses in a transaction (in its source, the callers of PreventInTransactionBlock), and
# whether each is repeatable: https://www.postgresql.org/docs/current/sql-commands.html, "cannot be executed inside a
# transaction block".
_NON_TRANSACTIONAL = {
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
_MAY_COMMIT = re.compile(r"\b(commit|rollback)\b", re.IGNORECASE)
_SET_CONFIG = re.compile(r"\bset_config\b", re.IGNORECASE)


def _to_statement(offset: int, text: str, node: Any) -> Statement:
    kind = type(node).__name__
    alone = TransactionUse.NON_TRANSACTIONAL
    index = _index_operation(kind, node)
    if index is not None:
        return Statement(offset, text, alone, repeatable=_is_repeatable_on_index(node), index=index)
    if kind in _NON_TRANSACTIONAL:
        discards_all = kind == "DiscardStmt" and node.target.name == "DISCARD_ALL"
        return Statement(offset, text, alone, repeatable=_NON_TRANSACTIONAL[kind], discards_all=discards_all)
    if kind == "VacuumStmt":  # VACUUM or ANALYZE
        use = alone if node.is_vacuumcmd else TransactionUse.TRANSACTIONAL
        return Statement(offset, text, use, repeatable=True)
    # A procedure may commit part of its work. So may a DO block, but only one whose text has COMMIT or ROLLBACK.
    if kind == "CallStmt" or (kind == "DoStmt" and _MAY_COMMIT.search(text)):
        return Statement(offset, text, alone, atomic=False)
    # DETACH PARTITION ... CONCURRENTLY runs in two transactions.
    if kind == "AlterTableStmt" and any(getattr(command.def_, "concurrent", False) for command in node.cmds):
        return Statement(offset, text, alone, atomic=False)
    return Statement(offset, text, _transaction_use(kind, text, node))


def _transaction_use(kind: str, text: str, node: Any) -> TransactionUse:
    if kind == "TransactionStmt":
        command = node.kind.name.removeprefix("TRANS_STMT_")
        if command in {"COMMIT_PREPARED", "ROLLBACK_PREPARED"}:
            return TransactionUse.NON_TRANSACTIONAL
        return TransactionUse.COMMIT if command == "COMMIT" else TransactionUse.CONTROL
    is_set = kind == "VariableSetStmt" and not node.is_local
    if is_set or (kind == "SelectStmt" and _SET_CONFIG.search(text)):
        return TransactionUse.SESSION_SETTING
    return TransactionUse.TRANSACTIONAL


def _index_operation(kind: str, node: Any) -> IndexOperation | None:
    if kind == "IndexStmt" and node.concurrent:
        return IndexOperation(IndexAction.CREATE, node.relation.schemaname, node.idxname)
    if kind == "DropStmt" and node.concurrent:
        *schema, name = (part.sval for part in node.objects[0])
        return IndexOperation(IndexAction.DROP, schema[-1] if schema else None, name)
    if (
        kind == "ReindexStmt"
        and node.relation
        and any(option.defname == "concurrently" for option in node.params or ())
    ):
        is_index = node.kind.name == "REINDEX_OBJECT_INDEX"
        action = IndexAction.REINDEX if is_index else IndexAction.REINDEX_TABLE
        return IndexOperation(action, node.relation.schemaname, node.relation.relname)
    return None


def _is_repeatable_on_index(node: Any) -> bool:
    """Return whether a statement on an index has IF [NOT] EXISTS, or is REINDEX."""
    return bool(
        getattr(node, "if_not_exists", False) or getattr(node, "missing_ok", False) or not hasattr(node, "concurrent")
    )


_TABLE, _PREPARED, _CURSOR, _LISTENER = "temporary table", "prepared statement", "cursor", "listener"
_TEMPORARY, _LOCK, _SETTING, _CONNECTION = "temporary object", "advisory lock", "setting", "dblink connection"
_RELATIONS = {
    "CreateStmt": "relation",
    "CreateSeqStmt": "sequence",
    "ViewStmt": "view",
    "CreateTableAsStmt": "into.rel",
    "SelectStmt": "intoClause.rel",
}
_NAMES = {
    "CreateFunctionStmt": "funcname",
    "CreateEnumStmt": "typeName",
    "CreateRangeStmt": "typeName",
    "CreateDomainStmt": "domainname",
    "DefineStmt": "defnames",
}
_HOLD = 0x0020  # CURSOR_OPT_HOLD; any other cursor ends with its transaction
_EXECUTED = {  # statements that run the functions in their text; CREATE FUNCTION, for instance, does not
    "SelectStmt",
    "InsertStmt",
    "UpdateStmt",
    "DeleteStmt",
    "MergeStmt",
    "DoStmt",
    "CallStmt",
    "CreateTableAsStmt",
}
_CALLS = (
    (_LOCK, re.compile(r"\bpg_(try_)?advisory_lock(_shared)?\b", re.IGNORECASE)),
    (_CONNECTION, re.compile(r"\bdblink_connect(_u)?\b", re.IGNORECASE)),
    (_SETTING, re.compile(r"\bsetseed\b", re.IGNORECASE)),
)
_IN_BLOCK = (
    (_TEMPORARY, re.compile(r"\btemp(orary)?\b|\bpg_temp\b", re.IGNORECASE)),
    (_PREPARED, re.compile(r"\bprepare\b", re.IGNORECASE)),
    (_LISTENER, re.compile(r"\blisten\b", re.IGNORECASE)),
    (_SETTING, re.compile(r"(^|;|\$|'|\bbegin|\bthen|\belse|\bloop)\s*(set|load)\s+(?!local\b)", re.IGNORECASE)),
)
"""What the text of a DO block shows of the statements in it, which the grammar takes for a string."""
_CONSTANT = {"A_Const", "TypeCast"}
_DISCARDED = {
    "DISCARD_ALL": (SessionObject(""),),
    "DISCARD_TEMP": (SessionObject(_TABLE), SessionObject(_TEMPORARY)),
}
_REMOVALS = {
    "DeallocateStmt": (_PREPARED, "name"),
    "ClosePortalStmt": (_CURSOR, "portalname"),
    "UnlistenStmt": (_LISTENER, "conditionname"),
}
_UNLOCKS_ALL = re.compile(r"\bpg_advisory_unlock_all\b", re.IGNORECASE)


def _made(text: str, node: Any) -> tuple[SessionObject, ...]:
    """Return what a statement makes that ends with the session.

    A SET at the top level is left out, since it can be repeated in another session. What a function of the database
    makes cannot be seen.
    """
    kind = type(node).__name__
    found: list[SessionObject] = []
    relation = _at(node, _RELATIONS.get(kind, ""))
    if relation is not None and _is_temporary(relation) and not _drops_on_commit(kind, node):
        found.append(SessionObject(_TABLE, relation.relname))
    names: tuple[Any, ...] = getattr(node, _NAMES.get(kind, ""), None) or ()
    if len(names) > 1 and names[0].sval.startswith("pg_temp"):
        found.append(SessionObject(_TEMPORARY, names[-1].sval))
    if kind == "PrepareStmt":
        found.append(SessionObject(_PREPARED, node.name))
    elif kind == "DeclareCursorStmt" and node.options & _HOLD:
        found.append(SessionObject(_CURSOR, node.portalname))
    elif kind == "ListenStmt":
        found.append(SessionObject(_LISTENER, node.conditionname))
    elif kind == "LoadStmt":
        found.append(SessionObject("library", node.filename))
    if kind in _EXECUTED:
        found += [SessionObject(what) for what, pattern in _CALLS if pattern.search(text)]
        if _SET_CONFIG.search(text) and not _is_constant_set_config(kind, node):
            found.append(SessionObject(_SETTING))
    if kind == "DoStmt":
        found += [SessionObject(what) for what, pattern in _IN_BLOCK if pattern.search(text)]
    return tuple(found)


def _removed(text: str, node: Any) -> tuple[SessionObject, ...]:
    kind = type(node).__name__
    if kind == "DiscardStmt":
        return _DISCARDED.get(node.target.name, ())
    if kind == "DropStmt":
        # A temporary table hides others of its name, so an unqualified name means the temporary one.
        names = [[part.sval for part in name] for name in node.objects if isinstance(name, tuple)]
        return tuple(SessionObject(_TABLE, at[-1]) for at in names if len(at) == 1 or at[0].startswith("pg_temp"))
    if kind in _REMOVALS:
        what, attribute = _REMOVALS[kind]
        return (SessionObject(what, getattr(node, attribute) or ""),)
    return (SessionObject(_LOCK),) if kind == "SelectStmt" and _UNLOCKS_ALL.search(text) else ()


def _at(node: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        node = getattr(node, name, None)
    return node if path else None


def _is_temporary(relation: Any) -> bool:
    return relation.relpersistence == "t" or (relation.schemaname or "").startswith("pg_temp")


def _drops_on_commit(kind: str, node: Any) -> bool:
    action = node.oncommit if kind == "CreateStmt" else getattr(getattr(node, "into", None), "onCommit", None)
    return getattr(action, "name", "") == "ONCOMMIT_DROP"


def _is_constant_set_config(kind: str, node: Any) -> bool:
    """Return whether a statement sets parameters to constants only, so that it can be repeated in another session."""
    if kind != "SelectStmt" or node.fromClause or node.whereClause or not node.targetList:
        return False
    return all(
        type(target.val).__name__ == "FuncCall"
        and all(type(value).__name__ in _CONSTANT for value in target.val.args or ())
        for target in node.targetList
    )
