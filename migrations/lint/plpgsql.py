"""The statements inside a DO block, which run when the migration does; the body of a function does not.

What is put together at run time (`EXECUTE format(...)`) cannot be read before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import Error, ast, parse_plpgsql, parse_sql

from migrations.lint.parser import ParsedStatement

if TYPE_CHECKING:
    from collections.abc import Iterator


def inside(statement: ParsedStatement) -> tuple[tuple[ParsedStatement, ...], bool]:
    """Give the SQL statements of a DO block in PL/pgSQL, in order, whatever condition they stand under.

    Source: https://www.postgresql.org/docs/current/plpgsql-statements.html

    Returns:
        The statements, and whether these are all that the block may run.
    """
    if not isinstance(statement.node, ast.DoStmt):
        return (), True
    try:
        block = parse_plpgsql(statement.text)
    except (Error, RecursionError, ValueError):
        return (), False  # for the server to refuse
    found: list[ParsedStatement] = []
    position = 0
    whole = all("action" in function["PLpgSQL_function"] for function in block)  # another language has none
    for written, sql in _queries(block):
        try:
            parsed = parse_sql(sql) if sql is not None else ()
        except (Error, RecursionError):
            parsed = ()
        whole = whole and bool(parsed)
        place = statement.text.find(written, position)
        position = max(position, place + len(written))
        found += [ParsedStatement(raw.stmt, (sql or "").strip(), statement.position + max(place, 0)) for raw in parsed]
    return tuple(found), whole


def _queries(tree: Any) -> Iterator[tuple[str, str | None]]:
    """Give each statement as it is written in the block, and as SQL; None where that is made at run time."""
    if isinstance(tree, list):
        for branch in tree:
            yield from _queries(branch)
    elif isinstance(tree, dict):
        for name, branch in tree.items():
            if name == "PLpgSQL_stmt_execsql":
                query = branch["sqlstmt"]["PLpgSQL_expr"]["query"]
                yield query, query
            elif name in {"PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors"}:
                query = branch["query"]["PLpgSQL_expr"]["query"]
                yield query, _constant(query)
                yield from _queries(branch.get("body", []))
            else:
                yield from _queries(branch)


def _constant(expression: str) -> str | None:
    """Give what EXECUTE runs where it is a plain text."""
    try:
        (raw,) = parse_sql(f"select {expression}")
    except (Error, RecursionError, ValueError):
        return None
    match raw.stmt:
        case ast.SelectStmt(targetList=(ast.ResTarget(val=ast.A_Const(val=ast.String(sval=str(sql)))),)):
            return sql
        case _:
            return None
