r"""What psql understands and PostgreSQL's grammar does not: data of COPY in the script, and commands with a backslash.

pg_dump writes `COPY t FROM stdin;`, then rows, then a line `\.`. Such data are passed to the server as rows; everything
else that needs psql is a problem of the file. Source: https://www.postgresql.org/docs/current/app-psql.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.files.lexer import COPY_FROM_STDIN, IDENTIFIER_START, RegionKind, regions
from migrations.files.positions import is_simple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Most files have neither, and need no closer look.
_MAY_COPY = re.compile(r"\bcopy\b", re.IGNORECASE)
_COPY = re.compile(rf"(?:\A|;)\s*+(?P<statement>{COPY_FROM_STDIN}|(?P<to>copy\b[^;]*?\bto\s+stdout\b))", re.IGNORECASE)
_COMMAND = re.compile(r"\\(?P<name>[^\s\\]*)")
_VARIABLE = re.compile(rf"(?<![:\\]):(?={IDENTIFIER_START})")
_NOT_LINE_END = re.compile(r"[^\n]")
_NO_ROWS = (
    "expected the rows of COPY ... FROM STDIN below it, and then a line `\\.`, found none; add them, or write INSERT "
    "statements (`pg_dump --inserts`)"
)
_OF_PSQL = "psql runs this command, PostgreSQL does not know it"
_REMEDIES = {
    "restrict": "pg_dump writes it for psql; delete the line",
    "unrestrict": "pg_dump writes it for psql; delete the line",
    "connect": f"{_OF_PSQL}; delete the line: a migration runs in the database of the database address",
    "i": f"{_OF_PSQL}; put the text of that file here",
    "copy": f"{_OF_PSQL}; write INSERT statements, or COPY ... FROM STDIN with its rows below and a line `\\.`",
    ".": "it ends the rows of COPY ... FROM STDIN, and there is none before it",
    "g": f"{_OF_PSQL}; end the statement with a semicolon",
    "gexec": f"{_OF_PSQL}; write a DO block with EXECUTE",
    "set": f"{_OF_PSQL}; write the value where it is used",
    "if": f"{_OF_PSQL}; write a DO block with IF",
}
_ALIASES = {
    "c": "connect",
    "ir": "i",
    "include": "i",
    "include_relative": "i",
    "elif": "if",
    "else": "if",
    "endif": "if",
}


@dataclass(frozen=True, slots=True)
class CopyBlock:
    r"""A statement COPY ... FROM STDIN and its rows; every offset is in characters.

    Attributes:
        begin: Offset of the statement.
        end: Offset of its semicolon.
        rows_begin: Offset of the first row.
        rows_end: Offset of the line `\.`.
        next: Offset behind that line.
    """

    begin: int
    end: int
    rows_begin: int
    rows_end: int
    next: int


def find_copy_blocks(sql: str) -> tuple[CopyBlock, ...]:
    """Return each COPY ... FROM STDIN that is followed by its rows, in order."""
    if "\n\\." not in sql or _MAY_COPY.search(sql) is None:
        return ()
    code = _code(sql)
    blocks = []
    for region in regions(sql):
        if region.kind is RegionKind.COPY_DATA:
            end = code.rindex(";", 0, region.begin)
            begin = code.rfind(";", 0, end) + 1
            begin += len(code[begin:end]) - len(code[begin:end].lstrip())
            blocks.append(CopyBlock(begin, end, region.begin, sql.rindex("\\.", 0, region.end), region.end))
    return tuple(blocks)


def blank_rows(sql: str) -> str:
    """Return the script with blanks instead of the rows of COPY, so that PostgreSQL's grammar accepts it."""
    for block in find_copy_blocks(sql):
        sql = sql[: block.rows_begin] + _blank(sql[block.rows_begin : block.next]) + sql[block.next :]
    return sql


def find_unsupported(sql: str) -> Iterator[tuple[int, str]]:
    """Yield the offset of everything that only psql can run, and what to do about it."""
    if "\\" not in sql and _MAY_COPY.search(sql) is None:
        return
    code = _code(sql)
    with_rows = {block.begin: block for block in find_copy_blocks(sql)}
    for match in _COPY.finditer(code):
        begin = match.start("statement")
        if match["to"]:
            yield begin, "COPY ... TO STDOUT sends rows to a client, and none receives them here; delete it"
        elif (block := with_rows.get(begin)) is None:
            yield begin, _NO_ROWS
        elif code[block.end + 1 : block.rows_begin].strip():
            yield begin, "expected nothing but the rows behind COPY ... FROM STDIN; begin a new line"
    for match in _COMMAND.finditer(code):
        name = match["name"].rstrip(";") or match["name"]
        remedy = _REMEDIES.get(_ALIASES.get(name, name), f"{_OF_PSQL}; delete it, or write as SQL what it does")
        yield match.start(), f"expected SQL, found \\{name}: {remedy}"


def find_client_copy(sql: str) -> bool:
    """Return whether a script has COPY ... FROM STDIN or TO STDOUT, with or without rows."""
    return _COPY.search(_code(sql)) is not None


def escape_for_psql(sql: str, *, join: bool = False) -> str:
    r"""Return the script with escapes, so that psql sends to the server what is written.

    Args:
        sql: The script.
        join: Whether psql is to send the script as one message, divided only at rows of COPY: psql sends nothing yet at
            a semicolon that is written as `\;`.
    """
    parts, position = [], 0
    for region in (*regions(sql), None):
        begin, kind = (region.begin, region.kind) if region else (len(sql), None)
        code = sql[position:begin]
        # `:name`, `:'name'` and `:"name"`, as in the slice `a[low:high]`, are replaced where psql has such a variable.
        if kind in {RegionKind.STRING, RegionKind.IDENTIFIER} and code.endswith(":") and not code.endswith("::"):
            code = f"{code[:-1]}\\:"
        code = _VARIABLE.sub(r"\\:", code)
        if join:
            before, end, after = code.rpartition(";") if kind is RegionKind.COPY_DATA else (code, "", "")
            code = before.replace(";", "\\;") + end + after
        position = region.end if region else begin
        parts += [code, sql[begin:position]]
    return "".join(parts)


def is_closed(sql: str) -> bool:
    """Return whether a script ends outside of every string, comment and quoted name, so that `;` may be added."""
    if is_simple(sql, len(sql)):
        return True
    probe = f"{sql}\n;"
    return all(region.end < len(probe) for region in regions(probe))


def count_statements(sql: str) -> int:
    """Return the number of statements of a script, by its semicolons; too many for a function with BEGIN ATOMIC."""
    return sum(bool(part.strip()) for part in _code(sql).split(";"))


def _code(sql: str) -> str:
    """Return the script with `"` instead of each quoted character, and blanks instead of comments and rows of COPY."""
    parts, position = [], 0
    for region in regions(sql):
        text = sql[region.begin : region.end]
        is_text = not region.kind.is_comment and region.kind is not RegionKind.COPY_DATA
        parts += [sql[position : region.begin], _NOT_LINE_END.sub('"', text) if is_text else _blank(text)]
        position = region.end
    return "".join((*parts, sql[position:]))


def _blank(text: str) -> str:
    return _NOT_LINE_END.sub(" ", text)
