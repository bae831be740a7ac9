"""What Python files assign, read without running them: Alembic and Django keep dependencies of migrations there."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class NotLiteral:
    """The value of a name that is assigned an expression, which only running the file would show."""


NOT_LITERAL = NotLiteral()


def parse_python(path: Path) -> ast.Module:
    """Parse a file, in the encoding that it declares.

    Raises:
        ValueError: It is not Python.
        OSError: It cannot be read.
    """
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ValueError(f"{path}: expected Python: {error}") from error
    except ValueError as error:  # a null byte
        raise ValueError(f"{path}: expected Python: {error}") from error


def literals(body: Iterable[ast.stmt]) -> Mapping[str, Any]:
    """Return the names that statements assign, with their values or `NOT_LITERAL`.

    A later statement replaces the value of an earlier one. A name that is assigned below `if`, `try` and the like is
    `NOT_LITERAL`.
    """
    found: dict[str, Any] = {}
    for node in body:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    _assign(found, target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                _assign(found, target, value)
            case ast.AugAssign(target=ast.Name(id=name)):
                found[name] = NOT_LITERAL
            case ast.ImportFrom(names=names) | ast.Import(names=names):
                found |= {(alias.asname or alias.name): NOT_LITERAL for alias in names}
            case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While():
                inner = (child for child in ast.walk(node) if isinstance(child, ast.Name))
                found |= {name.id: NOT_LITERAL for name in inner if isinstance(name.ctx, ast.Store)}
    return found


def _assign(found: dict[str, Any], target: ast.expr, value: ast.expr) -> None:
    match target, value:
        case ast.Name(id=name), _:
            found[name] = _value(value)
        case ast.Tuple(elts=targets) | ast.List(elts=targets), ast.Tuple(elts=values) | ast.List(elts=values) if len(
            targets
        ) == len(values):
            for inner, each in zip(targets, values, strict=True):
                _assign(found, inner, each)
        case ast.Tuple(elts=targets) | ast.List(elts=targets), _:
            found |= {inner.id: NOT_LITERAL for inner in targets if isinstance(inner, ast.Name)}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return NOT_LITERAL
