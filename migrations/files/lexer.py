"""PostgreSQL's lexical structure, as far as it decides what is a comment, what is quoted and what is a statement.

pglast's scanner knows the same, but it is slow to import, and `migrate up` reads every file even where nothing is
pending. For the same reason `native` imports this module only for files that are not simple. Each function takes
linear time.

Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html, and PostgreSQL's scan.l where that is silent
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class RegionKind(Enum):
    """What a region of a script is; the value is its name in messages."""

    LINE_COMMENT = "comment"
    BLOCK_COMMENT = "block comment"
    STRING = "string"
    IDENTIFIER = "quoted identifier"
    DOLLAR_QUOTE = "dollar-quoted string"
    COPY_DATA = "COPY data"

    @property
    def is_comment(self) -> bool:
        """Whether PostgreSQL ignores it."""
        return self in {RegionKind.LINE_COMMENT, RegionKind.BLOCK_COMMENT}


class Region(NamedTuple):
    """A part of a script that is not code.

    Attributes:
        kind: What it is.
        begin: Offset of its first character, which belongs to the delimiter.
        end: Offset behind its last character; the length of the script where it is not closed.
    """

    kind: RegionKind
    begin: int
    end: int


# scan.l: ident_start and ident_cont; every character beyond ASCII is a letter. Each class is written as what is not in
# it: Python takes 2 ms to compile one that has a range up to \U0010ffff, and every run with a pending migration waits.
IDENTIFIER_START = r"[^\x00-@[-^`{-\x7f]"
_IDENTIFIER_CONTINUES = r"[^\x00-/:-@[-^`{-\x7f]"
_IDENTIFIER = r"[^\x00-#%-/:-@[-^`{-\x7f]"  # the same with `$`
_TAG = rf"\$(?:{IDENTIFIER_START}{_IDENTIFIER_CONTINUES}*+)?\$"
_OPENING = re.compile(rf"['\"]|--|/\*|{_TAG}")
_OPENING_OR_END = re.compile(rf"['\"]|--|/\*|{_TAG}|;")
_LETTER = re.compile(IDENTIFIER_START)
_IDENTIFIER_CHARACTER = re.compile(_IDENTIFIER)
_REST_OF_IDENTIFIER = re.compile(rf"{_IDENTIFIER}*+")
_REST = {
    "'": re.compile(r"[^']*+(?:''[^']*+)*+'"),
    '"': re.compile(r'[^"]*+(?:""[^"]*+)*+"'),
    "E": re.compile(r"[^'\\]*+(?:(?:''|\\.)[^'\\]*+)*+'", re.DOTALL),
    "--": re.compile(r"[^\n\r]*+"),
}
_KINDS = {
    "'": RegionKind.STRING,
    '"': RegionKind.IDENTIFIER,
    "--": RegionKind.LINE_COMMENT,
    "/*": RegionKind.BLOCK_COMMENT,
}
_BLOCK_DELIMITER = re.compile(r"/\*|\*/")
_BLANKS_AND_LINE_COMMENTS = re.compile(r"(?:\s++|--[^\n\r]*+)*+")
_SPACES = " \t\n\r\f\v"

COPY_FROM_STDIN = r"copy\b(?!\s*+\()[^;]*?\bfrom\s+stdin\b"
"""Matches the code of a statement COPY ... FROM STDIN; with a query in parentheses it can only be TO."""
_COPY_FROM_STDIN = re.compile(rf"\s*+{COPY_FROM_STDIN}", re.IGNORECASE)
_END_OF_COPY_DATA = re.compile(r"^\\\.[ \t\r]*$", re.MULTILINE)


def find_code(sql: str, begin: int = 0) -> int:
    """Return the offset of the first character outside blanks and comments; the length where there is none."""
    position = begin
    while True:
        blanks = _BLANKS_AND_LINE_COMMENTS.match(sql, position)
        position = blanks.end() if blanks else position
        if not sql.startswith("/*", position):
            return position
        position = _end_of_block_comment(sql, position)


def regions(sql: str) -> Iterator[Region]:
    """Yield every comment, quoted text and COPY data of a script, in order; one that is not closed is the last."""
    has_copy_data = "\n\\." in sql
    opening = _OPENING_OR_END if has_copy_data else _OPENING
    position = 0  # behind the last region, so that a new token begins here
    escaped_until: int | None = None  # behind an escape string, as long as the next string may continue it
    code: list[str] = []  # the statement's code so far; collected only where COPY data may occur
    while match := opening.search(sql, position):
        begin, mark = match.start(), match[0]
        gap = sql[position:begin]
        escaped_until = None if gap.strip(_SPACES) else escaped_until
        if has_copy_data:
            code += [gap, " " if mark in {"--", "/*"} else mark]
        if mark == ";":
            data = _copy_data(sql, "".join(code), begin)
            if data is not None:
                yield data
            position, code, escaped_until = (data.end if data else match.end()), [], None
            continue
        if mark[0] == "$" and _continues_identifier(sql, position, begin):
            rest = _REST_OF_IDENTIFIER.match(sql, begin)
            position = rest.end() if rest else match.end()
            continue
        escaped = mark == "'" and (
            _has_escape_prefix(sql, position, begin)
            # scan.l, quotecontinue: a string goes on behind blanks and line comments that contain the end of a line.
            or (escaped_until is not None and _has_line_end(sql, escaped_until, begin))
        )
        region = _region(sql, match, escaped=escaped)
        yield region
        position = region.end
        if mark == "'":
            escaped_until = position if escaped else None
        elif mark != "--":
            escaped_until = None


def _region(sql: str, opening: re.Match[str], *, escaped: bool) -> Region:
    begin, mark = opening.start(), opening[0]
    if mark == "/*":
        return Region(RegionKind.BLOCK_COMMENT, begin, _end_of_block_comment(sql, begin))
    if mark[0] == "$":
        close = sql.find(mark, opening.end())
        return Region(RegionKind.DOLLAR_QUOTE, begin, len(sql) if close < 0 else close + len(mark))
    rest = _REST["E" if escaped else mark].match(sql, opening.end())
    return Region(_KINDS[mark], begin, rest.end() if rest else len(sql))


def _end_of_block_comment(sql: str, begin: int) -> int:
    """Return the offset behind a block comment, which may contain others."""
    depth, position = 0, begin
    while delimiter := _BLOCK_DELIMITER.search(sql, position):
        depth += 1 if delimiter[0] == "/*" else -1
        position = delimiter.end()
        if not depth:
            return position
    return len(sql)


def _continues_identifier(sql: str, floor: int, at: int) -> bool:
    """Return whether the dollar sign at an offset belongs to an identifier such as `a$b$c`."""
    begin = at
    while begin > floor and _IDENTIFIER_CHARACTER.match(sql, begin - 1):
        begin -= 1
    return _LETTER.search(sql, begin, at) is not None


def _has_escape_prefix(sql: str, floor: int, quote: int) -> bool:
    if quote <= floor or sql[quote - 1] not in "eE":
        return False
    return quote - 1 == floor or not _IDENTIFIER_CHARACTER.match(sql, quote - 2)


def _has_line_end(sql: str, begin: int, end: int) -> bool:
    return sql.find("\n", begin, end) >= 0 or sql.find("\r", begin, end) >= 0


def _copy_data(sql: str, code: str, semicolon: int) -> Region | None:
    r"""Return the data of `COPY ... FROM STDIN;`, which ends with a line `\.`; None for any other statement.

    Args:
        sql: The script.
        code: The statement, with a blank for each comment and a delimiter for each quoted text.
        semicolon: Offset of its semicolon.
    """
    if _COPY_FROM_STDIN.match(code) is None:
        return None
    begin = sql.find("\n", semicolon) + 1
    end = _END_OF_COPY_DATA.search(sql, begin) if begin else None
    return Region(RegionKind.COPY_DATA, begin, end.end()) if end else None
