"""Which role lacks which right, and the statement that grants it: what the server's message leaves out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from migrations.sql.statements import load, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrations.postgres.session import Session

_SQL = load("rights")
_RELATIONS = ("table", "view", "materialized view", "foreign table", "sequence", "relation", "index")
_ROUTINES = ("function", "procedure", "aggregate", "routine")
_PRIVILEGES = {  # of objects without a schema that have one privilege only
    "language": "usage",
    "foreign server": "usage",
    "foreign-data wrapper": "usage",
    "tablespace": "create",
}
_ATTRIBUTES = {"role": "createrole", "database": "createdb"}
_KINDS = "|".join(sorted((*_RELATIONS, *_ROUTINES, *_PRIVILEGES, "type", "schema", "database"), key=len, reverse=True))
# PostgreSQL's words, where it speaks English: aclchk.c, aclcheck_error; user.c; acl.c, check_can_set_role.
_DENIED = re.compile(rf"permission denied for (?P<kind>{_KINDS}) (?P<name>.+)")
_NOT_OWNER = re.compile(rf"must be owner of (?P<kind>{_KINDS}) (?P<name>.+)")
_NOT_CREATED = re.compile(r"permission denied to create (?P<kind>role|database)")
_TEMPORARY = re.compile(r'permission denied to create temporary tables in database "(?P<name>.+)"')
_NOT_MEMBER = re.compile(
    r'(?:must be (?:a )?member of role|must be able to SET ROLE|denied to set role) "(?P<name>.+)"'
)
_TAKES_ROLE = re.compile(
    r"\bset\s+(?:local\s+|session\s+)?(?:role(?:\s+to)?|session\s+authorization)\s+(?:\"(?P<quoted>[^\"]+)\"|'(?P<text>[^']+)'|(?P<plain>\w+))",
    re.IGNORECASE,
)
_VERBS = {
    "select": re.compile(r"\b(?:select|from|where|returning|copy)\b", re.IGNORECASE),
    "insert": re.compile(r"\b(?:insert|from\s+stdin)\b", re.IGNORECASE),
    "update": re.compile(r"\bupdate\b", re.IGNORECASE),
    "delete": re.compile(r"\bdelete\b", re.IGNORECASE),
    "truncate": re.compile(r"\btruncate\b", re.IGNORECASE),
    "references": re.compile(r"\breferences\b", re.IGNORECASE),
    "trigger": re.compile(r"\btrigger\b", re.IGNORECASE),
    "usage": re.compile(r"\b(?:nextval|currval)\b", re.IGNORECASE),
}
_CREATES = re.compile(r"\bcreate\b", re.IGNORECASE)
_OF_A_LEDGER = ("select", "insert", "update", "delete")


async def describe_missing_right(session: Session, message: str, sql: str = "", ledger: str = "") -> str:
    """Return which role lacks what, and who grants it by which statement, to be appended to a message.

    Args:
        session: A session of the same role, not in a failed transaction.
        message: The message of an error with SQLSTATE 42501.
        sql: The section that failed: what it does with a table decides which privileges it needs, and it may have taken
            another role.
        ledger: The name of the ledger's table. For this table the privileges to write a ledger count, not what `sql`
            does.

    Raises:
        DatabaseError: The connection was lost.
    """
    taken = [match["quoted"] or match["text"] or match["plain"].lower() for match in _TAKES_ROLE.finditer(sql)]
    role = await session.fetch_value(_SQL["role"], taken[-1] if taken else None)
    line = message.partition("\n")[0]
    who, grantee = f"the role {role}", quoted(role)
    if found := _NOT_OWNER.search(line):
        owner = await _owner(session, role, found["kind"], found["name"])
        grant = f"grant {quoted(owner)} to {grantee}" if owner else f"grant OWNER to {grantee}"
        return f"; {who} is not its owner{f', which is {owner}' if owner else ''}: a superuser runs `{grant}`"
    if found := _NOT_MEMBER.search(line):
        role = await session.fetch_value(_SQL["role"], None)
        who, grantee = f"the role {role}", quoted(role)
        return f"; {who} is no member of it: a superuser runs `grant {quoted(found['name'])} to {grantee}`"
    if found := _NOT_CREATED.search(line):
        return f"; {who} lacks this attribute: a superuser runs `alter role {grantee} {_ATTRIBUTES[found['kind']]}`"
    if found := _TEMPORARY.search(line):
        return _remedy(who, ["temporary"], f"database {quoted(found['name'])}", grantee, "")
    if found := _DENIED.search(line):
        return await _describe_denied(session, role, found["kind"], found["name"], sql, ledger)
    return f"; it was {who}"


async def _describe_denied(session: Session, role: str, kind: str, name: str, sql: str, ledger: str) -> str:
    who, grantee = f"the role {role}", quoted(role)
    if kind in _PRIVILEGES:
        return _remedy(who, [_PRIVILEGES[kind]], f"{kind} {quoted(name)}", grantee, "")
    row = await _find(session, role, kind, name)
    if row is None or not row["lacking"]:
        return f"; it was {who}"
    lacking, more = list(row["lacking"]), ""
    if kind == "database":
        lacking = [privilege for privilege in lacking if privilege != "temporary"] or lacking
    elif kind == "schema":  # the list begins with USAGE; only a statement that creates needs CREATE
        lacking = lacking if _CREATES.search(sql) else lacking[:1]
    elif name == ledger:
        lacking = [privilege for privilege in lacking if privilege in _OF_A_LEDGER]
        if not sql and lacking[:1] == ["select"]:  # a command that only reads needs no more
            lacking, more = ["select"], f" (a role that migrates needs {', '.join(_OF_A_LEDGER)})"
    elif kind in _RELATIONS:
        needed = [privilege for privilege in lacking if privilege in _VERBS and _VERBS[privilege].search(sql)]
        lacking = needed or [privilege for privilege in lacking if privilege in {*_OF_A_LEDGER, "usage"}]
    word = "table" if kind in _RELATIONS and kind != "sequence" else kind  # GRANT calls a view a table
    return _remedy(who, lacking, f"{word} {row['name']}", grantee, row["owner"]) + more


def _remedy(who: str, privileges: Sequence[str], target: str, grantee: str, owner: str) -> str:
    listed = ", ".join(privileges)
    by = f"its owner {owner}" if owner else "its owner"
    return f"; {who} lacks {listed.upper()}: {by}, or a superuser, runs `grant {listed} on {target} to {grantee}`"


async def _owner(session: Session, role: str, kind: str, name: str) -> str:
    row = await _find(session, role, kind, name)
    return row["owner"] if row else ""


async def _find(session: Session, role: str, kind: str, name: str) -> Mapping[str, Any] | None:
    """Return what is known of an object; of several with this name, the first that the role lacks a right on."""
    block = "relation" if kind in _RELATIONS else "routine" if kind in _ROUTINES else kind
    if block not in _SQL:
        return None
    rows = await session.fetch(_SQL[block], role, name.strip('"'))
    return next((row for row in rows if row["lacking"]), rows[0] if rows else None)
