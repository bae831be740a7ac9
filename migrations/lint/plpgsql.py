"""The SQL statements inside a DO block, which run when the migration runs; the body of a function does not.

SQL that is built at run time (`EXECUTE format(...)`) cannot be read before it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pglast import Error, ast, parse_plpgsql, parse_sql

from migrations.lint.parser import ParsedStatement

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class DoBlock:
    """What a DO block runs.

    Attributes:
        statements: Its SQL statements in order, including those under a condition.
        complete: Whether the block can run no other statement. Expressions, PERFORM and cursors are not read and do
            not count.
    """

    statements: tuple[ParsedStatement, ...]
    complete: bool


_NOT_A_BLOCK = DoBlock((), complete=True)
_UNREADABLE = DoBlock((), complete=False)


def parse_do_block(statement: ParsedStatement) -> DoBlock:
    """Read the statements of a DO block in PL/pgSQL; return an empty block for any other statement.

    Source: https://www.postgresql.org/docs/current/plpgsql-statements.html
    """
    if not isinstance(statement.node, ast.DoStmt):
        return _NOT_A_BLOCK
    try:
        block = parse_plpgsql(statement.text)
    except (Error, RecursionError, ValueError):
        return _UNREADABLE  # the server will refuse it with a better message
    # A block in another language comes back without an "action".
    complete = all("action" in function["PLpgSQL_function"] for function in block)
    statements: list[ParsedStatement] = []
    searched = 0
    for source, sql in _queries(block):
        try:
            parsed = parse_sql(sql) if sql is not None else ()
        except (Error, RecursionError):
            parsed = ()
        complete = complete and bool(parsed)
        # The PL/pgSQL parser reports no offsets: find the text, after the statement before, since two may be equal.
        offset = statement.text.find(source, searched)
        searched = max(searched, offset + len(source))
        position = statement.position + max(offset, 0)
        statements += [ParsedStatement(raw.stmt, (sql or "").strip(), position) for raw in parsed]
    return DoBlock(tuple(statements), complete)


def _queries(tree: Any) -> Iterator[tuple[str, str | None]]:
    """Yield each statement as the block spells it, and as SQL; None where the SQL is built at run time."""
    if isinstance(tree, list):
        for branch in tree:
            yield from _queries(branch)
    elif isinstance(tree, dict):
        for name, branch in tree.items():
            if name == "PLpgSQL_stmt_execsql":
                query = branch["sqlstmt"]["PLpgSQL_expr"]["query"]
                yield query, query
            elif name == "PLpgSQL_stmt_fors":  # its query may be an UPDATE or DELETE with RETURNING
                query = branch["query"]["PLpgSQL_expr"]["query"]
                yield query, query
                yield from _queries(branch.get("body", []))
            elif name in {"PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors"}:
                query = branch["query"]["PLpgSQL_expr"]["query"]
                yield query, _constant(query)
                yield from _queries(branch.get("body", []))
            else:
                yield from _queries(branch)


def _constant(expression: str) -> str | None:
    """Return the SQL that EXECUTE runs where its argument is a string constant; None for any other argument."""
    try:
        (raw,) = parse_sql(f"select {expression}")
    except (Error, RecursionError, ValueError):
        return None
    match raw.stmt:
        case ast.SelectStmt(targetList=(ast.ResTarget(val=ast.A_Const(val=ast.String(sval=str(sql)))),)):
            return sql
        case _:
            return None
