"""A script to its statements and comments, by PostgreSQL's own grammar; names and pieces of it back to SQL.

ValueError
└── ScriptError   SQL that PostgreSQL cannot parse, with the place
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pglast import Error, ast, parse_sql, scan
from pglast.keywords import RESERVED_KEYWORDS, TYPE_FUNC_NAME_KEYWORDS
from pglast.stream import RawStream

from migrations.sql.statements import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_KEYWORDS = RESERVED_KEYWORDS | TYPE_FUNC_NAME_KEYWORDS
_COMMENTS = frozenset(("SQL_COMMENT", "C_COMMENT"))


class ScriptError(ValueError):
    """SQL that PostgreSQL cannot parse.

    Attributes:
        position: Offset of what it stumbled over, in characters.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a table or the like; without a schema it is looked for in the search path, wherever that leads."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}" if self.schema else identifier(self.name)

    def same(self, other: Name) -> bool:
        """Whether both may mean the same object."""
        return self.name == other.name and (self.schema == other.schema or None in {self.schema, other.schema})


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """One statement of a script.

    Attributes:
        node: Its parse tree.
        text: As written, without what surrounds it.
        position: Offset of its first character in the script.
    """

    node: Any
    text: str
    position: int

    @property
    def end(self) -> int:
        """Offset of what follows it."""
        return self.position + len(self.text)


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, without its dashes or slashes, and where it begins."""

    text: str
    position: int


def statements(sql: str) -> tuple[ParsedStatement, ...]:
    """Cut a script into statements.

    Raises:
        ScriptError: It cannot be parsed.
    """
    try:
        parsed = parse_sql(sql)
    except Error as error:
        message, position = (*error.args, None)[:2]
        raise ScriptError(message, len(sql.rstrip()) if position is None else position) from error
    except RecursionError as error:
        raise ScriptError("nested too deeply to be read", 0) from error
    return tuple(_statement(sql, raw) for raw in parsed)


def comments(sql: str) -> tuple[Comment, ...]:
    """Give the comments of a script; none of one that cannot be cut into tokens."""
    try:
        tokens = scan(sql)
    except Error:
        return ()
    found = ((sql[token.start : token.end + 1], token.start) for token in tokens if token.name in _COMMENTS)
    return tuple(Comment(_bare(text), position) for text, position in found)


def identifier(name: str) -> str:
    """Quote a name where SQL needs it."""
    plain = _PLAIN.fullmatch(name) and name not in _KEYWORDS
    return name if plain or not name else quoted(name)


def relation(node: Any) -> Name:
    """Give the name that a RangeVar stands for."""
    return Name(node.schemaname, node.relname)


def dotted(parts: Any) -> Name:
    """Give the name that a list of String nodes, a String or a TypeName stands for."""
    if isinstance(parts, ast.TypeName):
        parts = parts.names
    words = [part.sval for part in (parts if isinstance(parts, tuple | list) else (parts,))]
    return Name(words[-2] if len(words) > 1 else None, words[-1])


def sql_of(node: Any) -> str:
    """Write a piece of a parse tree as SQL, or `...` where its printer is missing."""
    try:
        return str(RawStream()(node))
    except (NotImplementedError, AttributeError, TypeError, ValueError, RecursionError):
        return "..."


def names_of(strings: Iterable[Any] | None) -> str:
    """Write a list of String nodes as a list of columns."""
    return ", ".join(identifier(string.sval) for string in strings or ())


def walk(node: Any) -> Iterator[Any]:
    """Give a node and everything in it."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, ast.Node):
            yield here
            waiting += [getattr(here, name) for name in reversed(tuple(here))]
        elif isinstance(here, tuple | list):
            waiting += reversed(here)


def _statement(sql: str, raw: Any) -> ParsedStatement:
    end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(sql)
    return ParsedStatement(raw.stmt, sql[raw.stmt_location : end].rstrip().removesuffix(";"), raw.stmt_location)


def _bare(comment: str) -> str:
    return comment.strip().removeprefix("--").removeprefix("/*").removesuffix("*/").strip()
