"""What only psql can run: found with its place, and not in strings and comments; rows of COPY are no SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrations.core.migration import FilesError
from migrations.files.native import parse
from migrations.files.psql_syntax import blank_rows, count_statements, find_copy_blocks, find_unsupported, is_closed

ROWS = "1\tit's \\N; -- no comment\n2\t/* $$\n"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("copy t from stdin;", "rows of COPY"),
        ("select 1;\n/* x */ COPY public.t (a, b) FROM STDIN WITH (format csv);\n", "rows of COPY"),
        ('copy "from stdin" from stdin', "rows of COPY"),
        ("copy t from /* x */ stdin;", "rows of COPY"),
        ('copy"t"from stdin;', "rows of COPY"),
        ("copy t to stdout;", "TO STDOUT"),
        ("copy t to -- x\nstdout;", "TO STDOUT"),
        ("copy (select a from stdin) to stdout;", "TO STDOUT"),
        ("copy (select ';' from t) to\n stdout;", "TO STDOUT"),
        ("\\restrict abc\nselect 1;", "\\restrict: pg_dump"),
        ("\\connect shop", "\\connect"),
        ("  \\c shop", "\\c:"),
        ("\\i other.sql", "\\i: "),
        ("\\copy t from 'x.csv'", "\\copy"),
        ("select 1 \\gexec\n", "\\gexec"),
        ("select 1;\n\\.\n", "\\.: it ends the rows"),
        (f"copy t from stdin;\n{ROWS}\\.\n\\unrestrict abc", "\\unrestrict"),
        ("copy t from stdin; select 1;\n1\n\\.\n", "rows of COPY|nothing but"),
        ("copy t from stdin; select 1\n1\n\\.\n", "nothing but the rows"),
        ("\\c shop", "in the database of the database address"),
        ("\\ir other.sql", "put the text of that file here"),
        ("\\elif true", "write a DO block with IF"),
        ("select 1 \\g;", "end the statement with a semicolon"),
    ],
)
def test_what_needs_psql(sql: str, words: str) -> None:
    """Each is found once, with a word of what to do."""
    ((_, text),) = [found for found in find_unsupported(sql) if any(word in found[1] for word in words.split("|"))]
    assert text


@pytest.mark.parametrize("statement", ["copy t from stdin;", "COPY t FROM STDIN;", "Copy t to stdout;", "\\d t"])
def test_a_file_that_needs_psql_is_refused(statement: str) -> None:
    """The file is refused with the statement's line, whether in capitals or not."""
    with pytest.raises(FilesError) as refused:
        parse(Path("20250101000000_a.sql"), f"-- migrate:up\nselect 1;\n{statement}\n".encode())
    assert [problem.line for problem in refused.value.problems] == [3]


@pytest.mark.parametrize(
    "sql",
    [
        "select 'copy t from stdin', E'\\\\i x', '\\d';",
        "-- copy t from stdin;\n/* \\i x */ select 1;",
        "select $$\n\\restrict\ncopy t from stdin;\n$$;",
        'select "copy", copy from stdin;',
        "copy t from '/srv/rows.csv';",
        "copy (select a from stdin) to '/srv/rows.csv';",
        "insert into t select copy from stdin",
        f"copy t from stdin;\n{ROWS}\\.\nselect 1;",
        f"copy t from /* x */ stdin;\n{ROWS}\\.\nselect 1;",
        f"copy t from -- x;\nstdin;\n{ROWS}\\.\nselect 1;",
        f"/* x */copy/* y */t/* z */from/* ; */stdin/* ' */;\n{ROWS}\\.\nselect 1;",
        f'copy"t;"from stdin;\n{ROWS}\\.\nselect 1;',
    ],
)
def test_what_does_not(sql: str) -> None:
    """Strings, comments, dollar quotes, names, files of the server, and rows that are there."""
    assert not list(find_unsupported(sql))


def test_rows() -> None:
    """Statement and rows are found by their offsets, and blanks keep the place of what follows."""
    sql = f"values (';');\n\n/* ; */ copy t (a) from stdin ;  \n{ROWS}\\.\ncopy u from stdin;\n\\.\n"
    first, second = find_copy_blocks(sql)
    assert sql[first.begin : first.end] == "copy t (a) from stdin "
    assert sql[first.rows_begin : first.rows_end] == ROWS
    assert (sql[second.begin : second.end], sql[second.rows_begin : second.rows_end]) == ("copy u from stdin", "")
    blank = blank_rows(sql)
    assert len(blank) == len(sql)
    assert blank.count("\n") == sql.count("\n")
    assert "it's" not in blank
    assert count_statements(sql) == 3


@pytest.mark.parametrize(
    ("sql", "closed"),
    [
        ("select 1", True),
        ("select 1 -- it's", True),
        ("select 'a'", True),
        ("select 'it''s", False),
        ('select "a', False),
        ("/* /* */", False),
        ("do $a$ begin end $$", False),
        ("select E'\\'", False),
        ("select $a$ $a$", True),
    ],
)
def test_an_end_within_something(sql: str, *, closed: bool) -> None:
    """A semicolon may be added behind a script that leaves no string, comment or quoted name open."""
    assert is_closed(sql) is closed
