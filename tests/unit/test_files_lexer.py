from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast import Error, parse_sql, scan

from migrations.core.migration import FilesError
from migrations.files.lexer import find_code, regions
from migrations.files.native import parse
from migrations.files.positions import LineCounter

_PIECES = [
    *("'", "''", '"', "$$", "$a$", "$é$", "a$b$", "$", "\\", "\\'", "--", "-- x\n", "/*", "*/", "/* a /* b */ c */"),
    *("E'", "e'", "U&'", "B'", "N'", "x", "é", "1", "$1", "+", "-", "/", "*", ";", " ", "\t", "\n", "\r", "select "),
]
_SCRIPTS = st.lists(st.sampled_from(_PIECES), max_size=20).map("".join)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 'a''b' -- c", ["'a''b'", "-- c"]),
        (r"select E'a\'b' 'c'", [r"'a\'b'", "'c'"]),
        (r"select 'a\' /* b */", [r"'a\'", "/* b */"]),
        ("select E'a'\n'b\\'c'", ["'a'", "'b\\'c'"]),
        ("select E'a' -- x\n'b\\'c'", ["'a'", "-- x", "'b\\'c'"]),
        ("select E'a' 'b\\'", ["'a'", "'b\\'"]),
        ('select "a""b", "--"', ['"a""b"', '"--"']),
        ("/* a /* b */ c */ x", ["/* a /* b */ c */"]),
        ("do $a$ $$ ' $a$ -- x", ["$a$ $$ ' $a$", "-- x"]),
        ("select a$b$ 'c' $b$", ["'c'", "$b$"]),
        ("select $1 'c'", ["'c'"]),
        ("select 1 --x\rselect 2", ["--x"]),
        ("select 'open", ["'open"]),
        ("/* open /* */", ["/* open /* */"]),
        ("copy a from stdin;\n'\n\\.\nselect 'b'", ["'\n\\.", "'b'"]),
        ("-- x\nCOPY a (b) FROM stdin (format csv);\n$$\n\\.\n-- y", ["-- x", "$$\n\\.", "-- y"]),
        ("copy a from /* x */ stdin;\n'\n\\.\n-- y", ["/* x */", "'\n\\.", "-- y"]),
        ("copy a from b -- from stdin\n;\n'\n\\.\n", ["-- from stdin", "'\n\\.\n"]),
        ("select 'copy a from stdin';\n\\.\n'b'", ["'copy a from stdin'", "'b'"]),
    ],
)
def test_regions_are_what_postgres_reads(sql: str, expected: list[str]) -> None:
    """Comments, quotes of every form and COPY data, each whole."""
    assert [sql[region.begin : region.end] for region in regions(sql)] == expected


@given(_SCRIPTS)
def test_comments_are_those_of_the_grammar(sql: str) -> None:
    """In a script that PostgreSQL accepts, comments are those of its own scanner.

    Its scanner counts a comment between two parts of one string as part of the string.
    """
    try:
        parse_sql(sql)
        tokens = scan(sql)
    except Error:
        return
    kinds = {"SQL_COMMENT", "C_COMMENT"}
    expected = [(token.start, token.end + 1) for token in tokens if token.name in kinds]
    strings = [range(token.start, token.end) for token in tokens if token.name not in kinds]
    found = [(region.begin, region.end) for region in regions(sql) if region.kind.is_comment]
    assert [span for span in found if not any(span[0] in string for string in strings)] == expected


@given(_SCRIPTS)
def test_a_marker_is_accepted_outside_quotes_only(sql: str) -> None:
    """The fast check, without the lexer, never accepts a marker inside a string, a block comment or the like."""
    up = f"-- migrate:up\nselect 1;\n{sql}\n"
    text = f"{up}-- migrate:down\n"
    quoted = any(region.begin < len(up) < region.end for region in regions(text))
    try:
        parse(Path("20250101000000_x.sql"), text.encode())
    except FilesError as error:
        texts = [problem.text for problem in error.problems]
    else:
        texts = []
    # A backslash outside quotes is refused too, as a command of psql.
    assert quoted == any(not text.startswith("expected SQL, found \\") for text in texts)


@given(_SCRIPTS)
def test_regions_are_in_order_and_inside_the_script(sql: str) -> None:
    """Whatever the text, none overlaps another and none is empty."""
    ends = [0, *(offset for region in regions(sql) for offset in (region.begin, region.end)), len(sql)]
    assert ends == sorted(ends)
    assert 0 <= find_code(sql) <= len(sql)


def test_code_begins_behind_blanks_and_comments() -> None:
    """Nested comments are skipped whole; a text without code has its length as the answer."""
    assert find_code("-- a\n/* b /* c */ */ select") == 21
    assert find_code("-- a\n/* b */ ") == 13
    assert find_code("/* open /* */") == 13


@given(st.text("a\n", max_size=30), st.lists(st.integers(0, 30), max_size=8))
def test_lines_are_counted_from_one(text: str, offsets: list[int]) -> None:
    """Lines are counted from one, in whatever order the offsets are asked for."""
    line = LineCounter(text)
    assert [line(offset) for offset in offsets] == [text.count("\n", 0, offset) + 1 for offset in offsets]
