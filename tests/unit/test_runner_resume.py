"""What the completed statements of an interrupted migration left in their session, and a new session lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrations.files import native
from migrations.runner.non_transactional import split_section
from migrations.runner.resume import find_lost_state
from migrations.runner.section import Section

PATH = Path("20250101000000_a.sql")


def lost(sql: str, done: int) -> str | None:
    """Return the reason against resuming after some statements; the section begins in line 2."""
    migration = native.parse(PATH, f"-- migrate:up transaction:false\n{sql}".encode())
    section = Section(migration, migration.up, "up")
    return find_lost_state(section, split_section(section), done)


@pytest.mark.parametrize(
    ("sql", "done", "words"),
    [
        ("create temp table t ();\nselect 1;", 1, "sql:2 made"),
        ("create temp table t ();\nselect 1;", 0, None),
        ("create temp table t ();\nselect 1;", 2, None),  # nothing follows that could need it
        ("create temp table t ();\ncreate temp table u ();\ndrop table t;\nselect 1;", 3, "sql:3 made"),
        ("create temp table t ();\nprepare t as select 1;\ndeallocate t;\nselect 1;", 3, "sql:2 made"),
        ("create temp table t ();\nprepare p as select 1;\ndeallocate all;\nselect 1;", 3, "sql:2 made"),
        ("prepare p as select 1;\nprepare q as select 1;\ndeallocate all;\nselect 1;", 3, None),
        ("create temp table t ();\nprepare p as select 1;\ndiscard all;\nselect 1;", 3, None),
        ("insert into a default values;\nselect currval('s');", 1, "sql:3 needs the value that a sequence had"),
        ("insert into a default values;\n\nselect LastVal();", 1, "sql:4 needs the value that a sequence had"),
        ("insert into a default values;\nselect currval('s');", 0, None),
        ("select currval('s');\nselect 1;", 1, None),
        ("select currvalue();\nselect mylastval();", 1, None),
    ],
)
def test_what_the_rest_may_need(sql: str, done: int, words: str | None) -> None:
    """The first thing that was made and is still there, with its line; else what asks for a sequence's value."""
    reason = lost(sql, done)
    assert (reason is None) is (words is None), reason
    assert words is None or words in str(reason)
