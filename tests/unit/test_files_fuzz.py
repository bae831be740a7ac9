"""Random migration files through everything that reads them without a database: parse, lint and the script for psql.

`LEDGERGATE_FUZZ=10000` runs that many examples of each kind.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from migrations.core.migration import FilesError
from migrations.core.plan import UpPlan
from migrations.files.native import parse
from migrations.files.psql_syntax import blank_rows
from migrations.lint.linter import lint
from migrations.lint.scripts.native import native_script
from migrations.runner.ledger_writer import LedgerWriter
from migrations.runner.psql_script import render
from migrations.runner.section import MigrationFailed, Section
from migrations.runner.splitter import SplitError, split_statements
from migrations.runner.transactional import find_transaction_end

if TYPE_CHECKING:
    from migrations.core.migration import Migration

_EXAMPLES = int(os.environ.get("LEDGERGATE_FUZZ", "150"))
pytestmark = pytest.mark.timeout(900 + _EXAMPLES)
_WRITER = LedgerWriter("odd schema", "it's", 1, "pod'\\1")

_MARKERS = st.sampled_from(
    [
        *("-- migrate:up\n", "-- migrate:down\n", "--migrate:up transaction:false\r\n", "-- migrate:down none\n"),
        *(" -- migrate:down\n", "/* migrate : up */", "-- Migrate:Down\n", "-- migrate:up lock-timeout:2s\n"),
        *("-- migrate:up contract compatible-from:20240101000000_x\n", "-- migrate:\n", "-- migrate:up x\n"),
    ]
)
_QUOTES = st.sampled_from(
    [
        *("'", "''", '"', "$$", "$a$", "$é$", "E'", "U&'", "B'", "\\", "\\'", "/*", "*/", "--", "-- x\n", "\n", "\r\n"),
        *("'it''s'", "E'\\''", "$$ ' $$", "/* /* */ */", '"a""b"', "'\n-- migrate:down\n'", "\ufeff", "\0", "\u2028"),
        *(
            "\\.\n",
            "\\connect x\n",
            "\\restrict x\n",
            "a\t'b\n\\.\n",
            "😀",
            "e\u0301",
            ";",
            ";;",
            " ",
            "(",
            ")",
            "[",
            "$1",
        ),
    ]
)
_NAMES = st.sampled_from(["a", "b", '"A b"', "public.a", "é", '"😀"', "a.b.c", "1", "select", "pg_catalog.pg_class"])
_TYPES = st.sampled_from(["int", "text[]", "varchar(1)", "numeric(1000,2)", "a.b", "serial", "json", "timestamptz(9)"])
_TEMPLATES = st.sampled_from(
    [
        *("create table {0} ({1} {2} default {3}, check ({1} > {3}));", "alter table {0} add column {1} {2} not null;"),
        *("alter table only {0} alter {1} type {2} using {3}, drop {1};", "create index concurrently on {0} ({1});"),
        *("drop index concurrently if exists {0};", "reindex table concurrently {0};", "update {0} set {1} = {3};"),
        *("do $$ begin execute {3}; alter table {0} drop {1}; commit; end $$;", "do language plperl {3};"),
        *("create function {0}() returns {2} language sql as {3};", "insert into {0} select {3}, {1} from {0};"),
        *("create procedure {0}() begin atomic select {3}; end;", "call {0}({3});", "begin;", "commit and chain;"),
        *("end", "rollback to savepoint {1};", "copy {0} from stdin;\n1\t{3}\n\\.\n", "set role {1};", "vacuum {0};"),
        *("create type {0} as enum ({3});", "alter type {0} add value {3};", "comment on table {0} is {3};"),
        *("alter table {0} add constraint {1} foreign key ({1}) references {0} not valid;", "prepare {1} as select 1;"),
        *(
            "alter table {0} add exclude using gist ({1} with &&);",
            "alter table {0} attach partition {1} for values in (1);",
        ),
        *("create view {0} as select {3} as {1};", "refresh materialized view concurrently {0};", "truncate {0};"),
        *(
            "-- lint:allow {1} because {3}\n",
            "lint:allow",
            "/* lint: allow drop-table because */",
            "grant all on {0} to {1};",
        ),
    ]
)
_LITERALS = st.sampled_from(
    ["1", "'a'", "null", "now()", "E'\\n'", "$$b$$", "array[1]", "(select 1)", "1::int", "-1e400"]
)
_STATEMENTS = st.builds(lambda template, *parts: template.format(*parts), _TEMPLATES, _NAMES, _NAMES, _TYPES, _LITERALS)
_PIECES = st.one_of(_STATEMENTS, _STATEMENTS, _STATEMENTS, _QUOTES, _MARKERS, st.text(max_size=5))
_BODIES = st.lists(_PIECES, max_size=12).map("\n".join) | st.lists(_PIECES, max_size=12).map("".join)
_FILES = st.builds(
    lambda head, up, down, cut: (head + up + down)[: cut or None],
    st.sampled_from(["-- migrate:up\n", "-- migrate:up transaction:false\n", "-- why\n-- migrate:up\n", ""]),
    _BODIES,
    st.just("") | _BODIES.map("\n-- migrate:down\n{}".format),
    st.integers(0, 300) | st.just(0),
)
_ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
_CONTENTS = st.builds(lambda text, encoding: text.encode(encoding, "replace"), _FILES, _ENCODINGS) | st.builds(
    lambda text, cut: text.encode()[:cut], _FILES, st.integers(0, 200)
)
# Nothing that is refused when a file is read: markers, commands of psql, NUL.
_MILD = st.sampled_from(
    [
        *(
            "'",
            "''",
            '"',
            "$$",
            "$a$",
            "$é$",
            "E'",
            "U&'",
            "/*",
            "*/",
            "--",
            "-- x\n",
            "\n",
            "\r\n",
            "\u2028",
            "😀",
            "e\u0301",
        ),
        *(
            ";",
            ";;",
            " ",
            "(",
            ")",
            "[",
            "$1",
            ":a",
            ":'a'",
            "::",
            "'it''s'",
            "$$ ' $$",
            "/* /* */ */",
            '"a""b"',
            "$a$ \\ $a$",
        ),
        *("set client_encoding = 'latin1';", "set standard_conforming_strings = off;", "lock table a;", "discard all;"),
    ]
)
_SCRIPTS = st.builds(
    "-- migrate:up {}\n{}\n{}".format,
    st.sampled_from(["", "transaction:false"]),
    st.lists(st.one_of(_STATEMENTS, _STATEMENTS, _STATEMENTS, _MILD), min_size=1, max_size=12).map("\n".join),
    st.just("") | _STATEMENTS.map("-- migrate:down\n{}".format),
)
_PYTHON = st.lists(
    st.sampled_from(
        [
            *("async def up(connection):\n    ...\n", "async def down(c): ...\n", "def up(c): ...\n", "down = None\n"),
            *("transaction = False\n", "transaction: bool = False\n", "transaction: bool\n", "transaction = x\n"),
            *(
                "lock_timeout = '2s'\n",
                "lock_timeout = 2\n",
                "compatible_from = 'x'\n",
                "(" * 300,
                "'\\d'\n",
                '"""',
                "\\",
            ),
            *(
                "-" * 5000,
                "9" * 5000,
                "\0",
                "\t",
                "é = 1\n",
                "\ufeff",
                "# coding: utf-16\n",
                "f'{",
                "x = (y := 1)\n",
                "\r",
            ),
        ]
    ),
    max_size=8,
).map("".join)
_SETTINGS = settings(max_examples=_EXAMPLES, suppress_health_check=list(HealthCheck), deadline=10_000)


def _read(path: Path, content: bytes) -> Migration | None:
    """Return the migration; None where it is refused, which each problem justifies with file and line."""
    try:
        return parse(path, content)
    except FilesError as error:
        assert error.problems  # noqa: PT017 - parsing it may succeed as well
        for problem in error.problems:
            assert problem.path == str(path)
            assert 1 <= problem.line <= content.count(b"\n") + content.count(b"\r") + 1, problem
            assert str(problem).encode()
        return None


@_SETTINGS
@given(_CONTENTS, _CONTENTS)
def test_any_sql_is_read_or_refused(first: bytes, second: bytes) -> None:
    """No traceback and no hang; every refusal and every finding has its file and its line."""
    _go_through(first, second)


@_SETTINGS
@given(_SCRIPTS, _SCRIPTS)
def test_any_script_is_linted_and_rendered(first: str, second: str) -> None:
    """The same for files that are rarely refused when they are read, so that lint and --dry-run get them."""
    _go_through(first.encode(), second.encode())


def _go_through(*contents: bytes) -> None:
    migrations, files = [], []
    for number, content in enumerate(contents):
        path = Path(f"{20250101000000 + number}_it's.sql")
        migration = _read(path, content)
        event("refused" if migration is None else "read")
        if migration is not None:
            migrations.append(migration)
            files.append(native_script(migration, content.decode("utf-8-sig")))
    lines = {file.path: file.text.count("\n") + 1 for file in files}
    for finding in lint(files):
        assert 1 <= finding.line <= lines[finding.path], finding
    for migration in migrations:
        _render(migration)
        _split(migration)


def _render(migration: Migration) -> None:
    """Make the script for psql; where that is refused, the message has file and line."""
    path = re.escape(str(migration.path))
    try:
        script = render(UpPlan((migration,), batch=1), _WRITER, ("create_schema", "create"))
    except MigrationFailed as error:
        found = re.match(rf"{path}:([0-9]+): ", str(error))
        event("no script")
        assert found
        assert 1 <= int(found[1]) <= migration.up.line + (migration.up.sql or "").count("\n")
        return
    assert _unescape(migration.up.sql or "is Python") in _unescape(script)


def _unescape(text: str) -> str:
    """Return a text without what the script adds to a section: escapes, and transactions of single statements."""
    for added, written in (("\\;", ";"), ("\\:", ":"), ("begin; ", ""), ("\n; commit", "")):
        text = text.replace(added, written)
    return text


def _split(migration: Migration) -> None:
    """Split each section as the runner does before it runs it."""
    for direction, body in (("up", migration.up), ("down", migration.down)):
        if body is None or body.sql is None:
            continue
        end = find_transaction_end(body.sql)
        assert end is None or 0 <= end[0] <= len(body.sql)
        section = Section(migration, body, direction)
        try:
            for statement in split_statements(blank_rows(body.sql)):
                assert blank_rows(body.sql)[statement.offset :].startswith(statement.text)
        except SplitError as error:
            assert 1 <= section.line(error.position) <= body.line + body.sql.count("\n")  # noqa: PT017 - as above


@_SETTINGS
@given(_PYTHON)
def test_any_python_is_read_or_refused(text: str) -> None:
    """Any Python is parsed or refused as SQL is, and none of it runs."""
    migration = _read(Path("20250101000000_x.py"), text.encode())
    if migration is not None:
        files = [native_script(migration, text.removeprefix("\ufeff"))]
        assert all(finding.line >= 1 for finding in lint(files))
        _render(migration)


def test_deep_nesting_is_refused() -> None:
    """Thousands of parentheses and of nested comments end with a finding or a problem, not with a traceback."""
    for depth in (500, 20_000):
        for text in ("(" * depth + "1" + ")" * depth, "/*" * 500 + "*/" * 500 + "1", "-" + " -" * depth + "1"):
            content = f"-- migrate:up\nselect {text};\n-- migrate:down\nselect 1;\n"
            migration = _read(Path("20250101000000_x.sql"), content.encode())
            if migration is not None:
                lint([native_script(migration, content)])
                _split(migration)
        _read(Path("20250101000000_x.py"), ("(" * depth).encode())
        _read(Path("20250101000000_x.py"), f"x = {'-' * depth}1".encode())
