"""SQL scripts to statements and comments, by PostgreSQL's own grammar; parse trees and names back to SQL.

ValueError
└── ScriptError   SQL that PostgreSQL cannot parse, with the position
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pglast import Error, ast, enums, parse_sql, scan
from pglast.keywords import RESERVED_KEYWORDS, TYPE_FUNC_NAME_KEYWORDS
from pglast.stream import RawStream

from migrations.files.psql_syntax import blank_rows
from migrations.sql.statements import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_KEYWORDS = RESERVED_KEYWORDS | TYPE_FUNC_NAME_KEYWORDS
# `${name}`, `{{ name }}`, `<%= name %>`, and psql's `:'name'` and `:"name"`. A colon after a word or `]` belongs to an
# array slice, a colon after a colon to a cast.
_VARIABLE = re.compile(r"\$\{[^{}\n]*\}|\{\{[^{}\n]*\}\}|<%=[^%\n]*%>|(?<![:\w]):'\w+'|(?<![:\w\]]):\"\w+\"")
# `{% … %}`, `{# … #}`, `<% … %>`, and a line that is a command of psql.
_DIRECTIVE = re.compile(r"\{%.*?%\}|\{#.*?#\}|<%[^=].*?%>|^\\[A-Za-z!?][^\n]*$", re.DOTALL | re.MULTILINE)
_NOT_ENFORCED = re.compile(r"\benforced\b", re.IGNORECASE)
_VISIBLE = re.compile(r"[^\n\r]")
_COMMENTS = frozenset(("SQL_COMMENT", "C_COMMENT"))


class ScriptError(ValueError):
    """SQL that PostgreSQL cannot parse.

    Attributes:
        position: Offset of the first token that PostgreSQL did not accept, in characters.
        is_template: Whether the script has a template's variables, so that the tool runs another text.
    """

    def __init__(self, message: str, position: int, *, is_template: bool = False) -> None:
        super().__init__(message)
        self.position = position
        self.is_template = is_template


@dataclass(frozen=True, slots=True)
class Name:
    """Name of a table, type, index or the like; `schema` is None where the search path decides."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        return f"{quote_ident(self.schema)}.{quote_ident(self.name)}" if self.schema else quote_ident(self.name)

    def matches(self, other: Name) -> bool:
        """Return whether both may mean the same object."""
        return self.name == other.name and (self.schema == other.schema or None in {self.schema, other.schema})


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """A statement of a script.

    Attributes:
        node: Its parse tree.
        text: Its source text from the first token on, without the semicolon.
        position: Offset of its first character in the script.
    """

    node: Any
    text: str
    position: int

    @property
    def end(self) -> int:
        """Offset of the character after it."""
        return self.position + len(self.text)


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment without its delimiters, and the offset at which it begins."""

    text: str
    position: int


def parse_statements(sql: str) -> tuple[ParsedStatement, ...]:
    """Parse a script into statements.

    Raises:
        ScriptError: PostgreSQL cannot parse the script.
    """
    try:
        parsed = parse_sql(blank_rows(sql))
    except Error as error:
        message, position = (*error.args, None)[:2]  # without a position, the script ends too early
        raise ScriptError(message, len(sql.rstrip()) if position is None else position) from error
    except RecursionError as error:
        raise ScriptError("nested too deeply to be parsed", 0) from error
    if _NOT_ENFORCED.search(sql):
        _fold_not_enforced(parsed)
    return tuple(_statement(sql, raw) for raw in parsed)


def parse(sql: str, *, strict: bool = False) -> tuple[ParsedStatement, ...]:
    """Parse a script into statements, with names in the place of a template's variables where it has any.

    Args:
        sql: The script.
        strict: Whether to parse the script as it stands, without regard to templates and commands of psql.

    Raises:
        ScriptError: PostgreSQL cannot parse the script.
    """
    try:
        return parse_statements(sql)
    except ScriptError as error:
        readable = sql if strict else fill_in(sql)
        if readable == sql:
            raise
        try:
            return parse_statements(readable)
        except ScriptError as second:
            if _VARIABLE.search(sql):
                text = f"{second}, with names in the place of the template's variables"
                raise ScriptError(text, second.position, is_template=True) from error
            raise ScriptError(str(second), second.position) from error


def fill_in(sql: str) -> str:
    """Return a script of the same length without what PostgreSQL's grammar does not know.

    A template's variable becomes a name. A template's directive, the data of COPY … FROM STDIN and a command of psql
    that fills its line become blanks.
    """
    sql = _DIRECTIVE.sub(lambda match: _blank(match[0]), blank_rows(sql))
    return _VARIABLE.sub(lambda match: "v" * len(match[0]), sql)


def _blank(text: str) -> str:
    return _VISIBLE.sub(" ", text)


def parse_comments(sql: str) -> tuple[Comment, ...]:
    """Return the comments of a script; none where PostgreSQL's scanner rejects it."""
    try:
        tokens = scan(blank_rows(sql))
    except Error:
        return ()
    found = ((sql[token.start : token.end + 1], token.start) for token in tokens if token.name in _COMMENTS)
    return tuple(Comment(_without_delimiters(text), position) for text, position in found)


def quote_ident(name: str) -> str:
    """Quote an identifier where SQL needs it as the name of a table or column.

    PostgreSQL's function of that name also quotes keywords that such a name may be, like `values`.

    Source: `ColId` in PostgreSQL's gram.y
    """
    plain = _PLAIN.fullmatch(name) and name not in _KEYWORDS
    return name if plain or not name else quoted(name)


def relation_name(node: Any) -> Name:
    """Return the name in a RangeVar."""
    return Name(node.schemaname, node.relname)


def qualified_name(parts: Any) -> Name:
    """Return the name in a list of String nodes, a String, a TypeName or a function with its arguments."""
    if isinstance(parts, ast.TypeName):
        parts = parts.names
    if isinstance(parts, ast.ObjectWithArgs):
        parts = parts.objname
    # A cast and a transform have types in the place of a name.
    flat: list[Any] = [
        (part.names or ("",))[-1] if isinstance(part, ast.TypeName) else part for part in _as_list(parts)
    ]
    names = [part.sval for part in flat]
    return Name(names[-2] if len(names) > 1 else None, names[-1])


def _as_list(parts: Any) -> Sequence[Any]:
    return parts if isinstance(parts, tuple | list) else (parts,)


def to_sql(node: Any) -> str:
    """Print a parse tree as SQL, or `...` where pglast cannot print it."""
    try:
        return str(RawStream()(node))
    except (NotImplementedError, AttributeError, TypeError, ValueError, RecursionError):
        return "..."


def column_list(strings: Iterable[Any] | None) -> str:
    """Print a list of String nodes as a list of columns."""
    return ", ".join(quote_ident(string.sval) for string in strings or ())


def walk(node: Any) -> Iterator[Any]:
    """Yield a node and all its descendants, depth first."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, ast.Node):
            yield current
            stack += [getattr(current, name) for name in reversed(tuple(current))]
        elif isinstance(current, tuple | list):
            stack += reversed(current)


def columns_of(node: Any) -> set[str]:
    """Return the names of the columns that an expression refers to, without the names of their tables."""
    found: set[str] = set()
    for part in walk(node):
        match part:
            case ast.ColumnRef(fields=(*_, ast.String(sval=str(name)))):
                found.add(name)
    return found


def _fold_not_enforced(parsed: Any) -> None:
    """Move each NOT ENFORCED of a column into the constraint before it, where a table's constraint has it already.

    Source: `transformConstraintAttrs` of PostgreSQL (parse_utilcmd.c)
    """
    for column in (part for part in walk(parsed) if isinstance(part, ast.ColumnDef)):
        kept: list[Any] = []
        for constraint in column.constraints or ():
            if kept and constraint.contype == enums.ConstrType.CONSTR_ATTR_NOT_ENFORCED:
                kept[-1].is_enforced, kept[-1].skip_validation = False, True
            else:
                kept.append(constraint)
        column.constraints = tuple(kept)


def _statement(sql: str, raw: Any) -> ParsedStatement:
    # A length of 0 means the rest of the text (RawStmt in PostgreSQL's parsenodes.h): no semicolon ends the statement.
    end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(sql)
    return ParsedStatement(raw.stmt, sql[raw.stmt_location : end].rstrip().removesuffix(";"), raw.stmt_location)


def _without_delimiters(comment: str) -> str:
    return comment.strip().removeprefix("--").removeprefix("/*").removesuffix("*/").strip()
