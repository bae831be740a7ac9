"""Statements of safe ways that write rows in batches. They are shown, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pglast import ast

if TYPE_CHECKING:
    from migrations.lint.parser import Name


def backfill(table: Name, column: str, value: str) -> str:
    """Return an UPDATE that fills a part of a new column."""
    return f"UPDATE {table} SET {column} = {value} WHERE {column} IS NULL AND ...;"  # noqa: S608 - shown, never run


def in_batches(node: Any, table: Name) -> str:
    """Return the form of an UPDATE, a DELETE or an INSERT that writes a part of the rows."""
    if isinstance(node, ast.DeleteStmt):
        return f"DELETE FROM {table} WHERE id BETWEEN ... AND ...;"  # noqa: S608 - shown, never run
    if isinstance(node, ast.UpdateStmt):
        return f"UPDATE {table} SET ... WHERE id BETWEEN ... AND ...;"  # noqa: S608 - shown, never run
    return f"INSERT INTO {table} SELECT ... WHERE id BETWEEN ... AND ...;"
