from __future__ import annotations

from pathlib import Path

import pytest

from migrations.core.migration import FilesError, Migration, Undo
from migrations.files.native import parse

UP = "-- migrate:up\ncreate table a (n int);\n"


def of(text: str, name: str = "20250101000000_one.sql") -> Migration:
    return parse(Path(name), text.encode())


@pytest.mark.parametrize(
    "line",
    [
        *(
            " -- migrate:down",
            "\t--migrate:down",
            "select 1; -- migrate:down",
            "--- migrate:down",
            "------migrate:down---",
        ),
        *("-- migrate : down", "-- migrate :down", "--migrate:  DOWN", "-- Migrate:down", "-- MIGRATE:UP"),
        *("/* migrate:down */", "/*\n migrate:down\n*/", "/* a /* b */ migrate: up */", "select 1 /* migrate:down */;"),
        *("-- - migrate:down", "-- [migrate:down]", "-- migrate::down", "-- migrate:-down", "-- here: migrate:down"),
        *("--\u00a0migrate:down", "-- migrate\u200b:down", "-- migrate:\u00a0down", "-- migrate\uff1adown"),
        *("--\fmigrate:down", "-- x\r-- migrate:down", "\ufeff-- migrate:down", "/* x */ -- migrate:down"),
        *("select 'a' -- migrate:down", "select E'\\'' -- migrate:down", "select $$x$$ -- migrate:down"),
        *("-- +goose Down", "  -- +migrate Down", "-- migrate:downgrade", "-- Migrate:Downs"),
    ],
)
def test_a_comment_that_is_nearly_a_marker_is_a_problem(line: str) -> None:
    """PostgreSQL ignores it, so what stands below it would run with the up section."""
    with pytest.raises(FilesError, match="expected `-- migrate:up` or `-- migrate:down`") as refused:
        of(f"{UP}{line}\ndrop table a;\n")
    ((at,),) = [{problem.line for problem in refused.value.problems}]
    assert at == 3 + line.startswith("/*\n")


@pytest.mark.parametrize(
    "line",
    [
        *("-- how to migrate up", "-- migrate down: not here", "-- up: migrate", "-- we migrate users, then: downtime"),
        *("--  Migrate: update the names", "/* migrate users: up to 5 */", "select '-- migrate : down'"),
        *(
            "do $$ begin\n  -- migrate:down\nend $$;",
            'select 1 as "-- Migrate:Down"',
            "select E'\\'-- migrate : down'",
        ),
        *("select '\n  -- migrate:down'", "-- goose goes up", "-- migrated:down"),
    ],
)
def test_prose_and_strings_are_no_markers(line: str) -> None:
    """A comment without the colon between the words, and any text that is indented inside quotes."""
    migration = of(f"{UP}{line}\n-- migrate:down\ndrop table a;\n")
    assert line in (migration.up.sql or "")
    assert migration.down is not None
    assert migration.down.sql == "\ndrop table a;\n"


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("select '\n-- migrate:down\n';", "string that begins on line 3", 4),
        ("select 'open;\n-- migrate:down\ndrop table a;", "string that begins on line 3", 4),
        ("select E'\\'\n-- migrate:down\n';", "string that begins on line 3", 4),
        ("do $x$\n\n-- migrate:down\n$x$;", "dollar-quoted string that begins on line 3", 5),
        ("/* a\n/* b */\n-- migrate:down\n*/", "block comment that begins on line 3", 5),
        ('select "\n-- migrate:down\n";', "quoted identifier that begins on line 3", 4),
        ("copy a from stdin;\n-- migrate:down\n'\n\\.\nselect 1;", "COPY data that begins on line 4", 4),
    ],
)
def test_a_marker_inside_quotes_is_a_problem(text: str, what: str, line: int) -> None:
    """The tool dbmate would begin a section there, PostgreSQL would not: neither reading is safe."""
    with pytest.raises(FilesError) as refused:
        of(UP + text)
    ((problem,),) = [refused.value.problems]
    assert (problem.line, what in problem.text) == (line, True), problem


@pytest.mark.parametrize(
    "up",
    [
        "select 'it''s', E'\\'', $$ ' $$, \"a'b\"; -- it's",
        "/* it's /* \" */ */ select 1;",
        "copy a from stdin;\nit's\t$$ /* \"\n\\.",
    ],
)
def test_quotes_do_not_hide_the_marker_below_them(up: str) -> None:
    """The down section begins behind strings, comments and COPY data that hold half of a quote."""
    migration = of(f"-- migrate:up\n{up}\n-- migrate:down\ndrop table a;")
    assert (migration.up.sql, migration.undo) == (f"\n{up}\n", Undo.DECLARED)
    assert migration.down is not None


def test_a_file_says_what_it_means_by_having_no_down_section() -> None:
    """A section, `none`, or nothing; `none` excludes statements."""
    assert of(UP).undo is Undo.MISSING
    assert of(f"{UP}-- migrate:down\n").undo is Undo.DECLARED
    none = of(f"{UP}-- migrate:down none\n-- the rows are gone\n")
    assert (none.undo, none.down) == (Undo.NONE, None)
    with pytest.raises(FilesError, match=r"one\.sql:3: expected no statement below `-- migrate:down none`"):
        of(f"{UP}-- migrate:down none\ndrop table a;")
    with pytest.raises(FilesError, match=r"one\.sql:1: .*got 'none'"):
        of("-- migrate:up none\nselect 1;")


def test_python_says_the_same() -> None:
    """A function, `down = None`, or nothing."""
    up = "async def up(connection): ...\n"
    name = "20250101000000_one.py"
    assert of(up, name).undo is Undo.MISSING
    assert of(f"{up}down = None\n", name).undo is Undo.NONE
    assert of(f"{up}async def down(connection): ...\n", name).undo is Undo.DECLARED


def test_a_large_file_is_read_in_a_moment() -> None:
    """One million of what could make a search start again and again; each takes seconds at most, not hours."""
    for piece in (
        " -- migrate : x\n",
        "migrate:",
        "migrate ",
        "/*",
        "$a$b",
        "a$b$",
        "'",
        "E'\\' ",
        "--",
        "-- migrate:",
    ):
        text = f"-- migrate:up\n{piece * (500_000 // len(piece))}\n-- migrate:down\n"
        try:
            of(text)
        except FilesError as error:
            assert all(problem.line for problem in error.problems)  # noqa: PT017 - parsing it may succeed as well
