"""Findings have the right place, order and output; the rules match their documentation."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.cli.lint import LintFlags, lint_paths, list_rules
from migrations.core.migration import FilesError
from migrations.files.native import parse
from migrations.lint.linter import RULES, lint
from migrations.lint.parser import ScriptError, parse_comments, parse_statements
from migrations.lint.reports.json_report import to_json
from migrations.lint.reports.summary import Summary
from migrations.lint.rule import Level
from migrations.lint.scripts.native import native_script
from tests.lint_files import findings, parse_files, up

if TYPE_CHECKING:
    from migrations.lint.finding import Finding

DOCS = Path(__file__).parents[2] / "docs" / "lint.md"
INDEX = "create index i on t (a)"


def positions(*texts: str) -> list[tuple[int, int]]:
    return [(finding.line, finding.column) for finding in findings(*texts)]


def test_a_finding_names_the_line_of_its_statement() -> None:
    """The line is the statement's first, not that of a comment above it, nor its last."""
    text = up(f"/* é\n two */ -- x;\n\n  {INDEX.replace(' on', chr(10) + ' on')}; -- y\nselect 'é\n'; {INDEX};")
    assert positions(text) == [(5, 3), (8, 4)]
    assert positions(text.replace("\n", "\r\n")) == [(5, 3), (8, 4)]
    assert positions("\ufeff" + text) == [(5, 3), (8, 4)]


def test_lines_are_counted_from_the_first_line_of_the_file() -> None:
    """Lines are those of the file, not of the section."""
    assert positions(f"-- a\n-- b\n-- migrate:up\n{INDEX};\n-- migrate:down\nselect 1;\nvacuum;") == [(4, 1), (7, 1)]


@pytest.mark.parametrize(
    ("sql", "line", "column", "message"),
    [
        ("select 1;\n  é selec 1;", 3, 3, 'syntax error at or near "é"'),
        ("select 1;\nselect (1\n;", 4, 1, 'syntax error at or near ";"'),
        ("select 'a\nb", 2, 8, "unterminated quoted string at or near"),
        ("select 1 from\n", 2, 14, "syntax error at end of input"),
    ],
)
def test_a_syntax_error_is_found_where_postgresql_reports_it(sql: str, line: int, column: int, message: str) -> None:
    """A syntax error has PostgreSQL's position and message, and is the only finding of its section."""
    (finding,) = [finding for finding in findings(f"-- migrate:up\n{sql}") if finding.rule == "syntax"]
    assert (finding.line, finding.column) == (line, column)
    assert finding.message.startswith(message)


def test_python_migrations_are_not_read() -> None:
    """Lint only checks that they have a down function."""
    text = 'async def up(connection):\n    await connection.execute("drop table t")\n'
    path = Path("20250101000000_x.py")
    assert [finding.rule for finding in lint([native_script(parse(path, text.encode()), text)])] == ["missing-down"]
    text += "\nasync def down(connection):\n    pass\n"
    assert lint([native_script(parse(path, text.encode()), text)]) == []


def _write_migrations(directory: Path, *scripts: str) -> Path:
    for number, script in enumerate(scripts):
        (directory / f"{20250101000000 + number}_x.sql").write_text(script)
    return directory


def test_only_errors_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings and advice leave the exit code at 0."""
    _write_migrations(tmp_path, "-- migrate:up\ncreate table t (id serial primary key);")
    assert lint_paths((str(tmp_path),), LintFlags()) == 0
    text = capsys.readouterr().out
    assert (
        text.splitlines()[0]
        == f"{tmp_path}/20250101000000_x.sql:1: missing-down (warning): the migration cannot be undone"
    )
    assert text.splitlines()[-1] == "0 errors, 1 warning in 1 file; 1 of level advice not shown: --advice shows them"
    assert lint_paths((str(tmp_path),), LintFlags(advice=True)) == 0
    assert "x.sql:2: integer-primary-key (advice): " in capsys.readouterr().out
    _write_migrations(tmp_path, up("create table t ()"), up("truncate u"))
    assert lint_paths((str(tmp_path),), LintFlags()) == 2
    finding, locks, safe, *more, counts = capsys.readouterr().out.splitlines()
    assert finding.endswith("01_x.sql:2: truncate: TRUNCATE blocks reads and writes of u, and removes every row")
    assert locks == "    locks: ACCESS EXCLUSIVE on u, which blocks reads and writes"
    assert safe.startswith("    safe:  -- if the rows must go: delete them in batches, ")
    assert more == ["           DELETE FROM u WHERE ...;"]
    assert counts == "1 error, 0 warnings in 2 files"


def test_invalid_files_are_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --output json, unreadable files are findings in the JSON, not messages beside it."""
    _write_migrations(tmp_path, "-- migrate:up\n", "select 1;")
    assert lint_paths((str(tmp_path),), LintFlags(output="json")) == 2
    document = json.loads(capsys.readouterr().out)
    assert [(found["rule"], found["line"]) for found in document["findings"]] == [("file", 1), ("file", 1)]
    assert lint_paths((str(tmp_path / "none"),), LintFlags()) == 2
    assert capsys.readouterr().out.startswith(f"{tmp_path}/none: file: expected a directory of migrations, found none")


def test_the_json_keeps_its_form() -> None:
    """The keys and types of the JSON stay as they are, since programs read it."""
    summary = Summary({Level.ERROR: 1, Level.WARNING: 0, Level.ADVICE: 0}, files=1)
    document = json.loads(to_json(findings(up(INDEX)), summary))
    (found,) = document["findings"]
    reasons = found.pop("reasons")
    assert reasons == [{name: found[name] for name in ("rule", "level", "message", "lock", "safe")}]
    assert document == {
        "version": 2,
        "files": 1,
        "older": 0,
        "counts": {"error": 1, "warning": 0, "advice": 0},
        "known": 0,
        "notes": [],
        "findings": [
            {
                "path": "20250101000000_x.sql",
                "line": 2,
                "column": 1,
                "rule": "index-not-concurrent",
                "level": "error",
                "message": "CREATE INDEX blocks every write to t until it is built",
                "lock": {"mode": "SHARE", "blocks": "writes", "tables": ["t"]},
                "safe": [
                    "-- in a migration of its own: -- migrate:up transaction:false",
                    "create index CONCURRENTLY i on t (a);",
                ],
                "fingerprint": "892e97b9aeb0",
            }
        ],
    }


def test_the_documentation_matches_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    """Every rule has a section with its summary, level, lock, source and other names; there is no other section."""
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", DOCS.read_text(), re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted(rule.name for rule in RULES)
    for rule in RULES:
        section = " ".join(sections[rule.name].split())
        assert section.startswith(rule.summary), rule.name
        assert f"- Level: {rule.level} " in section, rule.name
        assert (f"- Locks: {rule.lock}, which blocks {rule.lock.blocks} " if rule.lock else "- ") in section, rule.name
        assert ("- Locks: " in section) == (rule.lock is not None), rule.name
        page = rule.source.removeprefix("docs/")
        assert f"- Source: <{page}>" in section or f"- Source: [{page}]" in section or page == "lint.md", rule.name
        assert all(f"`{name}`" in section for name in rule.others), rule.name
    assert list_rules() == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [rule.name for rule in RULES]


def test_the_sql_of_the_documentation_can_be_parsed() -> None:
    """Readers copy it."""
    for script in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL):
        lines = [line for line in script.splitlines() if not line.startswith(("at ", "code ", "id ", "data "))]
        parse_statements("\n".join(lines).replace(" AND ...", ""))


def test_only_the_lint_command_imports_the_grammar() -> None:
    """Every command imports the module of the command, so pglast is imported only when lint runs."""
    source = (Path(__file__).parents[2] / "migrations" / "cli" / "lint.py").read_text()
    head = source.partition("def lint")[0].partition("if TYPE_CHECKING:")
    assert "pglast" not in "".join(head)
    assert "migrations.lint" not in head[0]
    assert "migrations.lint.linter" in sys.modules


PIECES = st.sampled_from(
    """
    create table index unique concurrently on only t u "T" ( ) , ; alter add column constraint c check foreign key
    references primary not null valid validate using drop rename to type set default generated always as identity
    stored serial varchar(10) text int numeric(8,2) timestamp begin commit update delete from where insert into
    select 'x' 1 -- lint:allow because \n /* */ $$ $$ truncate lock vacuum full reindex cluster refresh
    materialized view partition of for values in attach detach if exists cascade enum value domain trigger schema
    do with returning * = . :: [] local search_path exclude gist migrate:up transaction:false contract
    compatible-from:20240101000000_a -- migrate:down
    """.split(" ")  # noqa: SIM905 - sixty names on sixty lines are no easier to read
)
STATEMENTS = st.lists(PIECES, max_size=40).map(" ".join)


def _lint(text: str) -> list[Finding]:
    try:
        return lint(parse_files(text))
    except FilesError:
        return []


@given(st.one_of(st.text(), STATEMENTS), st.sampled_from(["", "transaction:false"]))
def test_lint_never_raises(text: str, options: str) -> None:
    """For any text there is a result, and every line in it is a line of the file."""
    whole = f"-- migrate:up {options}\n{text}"
    lines = whole.count("\n") + 1
    assert all(1 <= finding.line <= lines for finding in _lint(whole))


@given(st.text(alphabet="ab;'\"-/*$\n é(", max_size=40))
def test_statements_and_comments_have_their_true_position(text: str) -> None:
    """The script has their text at their position."""
    for comment in parse_comments(text):
        assert comment.text in text[comment.position :]
    try:
        found = parse_statements(text)
    except ScriptError as error:
        found, position = (), error.position
        assert 0 <= position <= len(text)
    for statement in found:
        assert text[statement.position : statement.end] == statement.text


@given(st.lists(st.sampled_from([INDEX, "truncate t", "select 1", "drop table t", "create table t ()"]), max_size=6))
def test_the_same_files_give_the_same_findings(scripts: list[str]) -> None:
    """The same files give the same findings, and a later file does not change those of an earlier one."""
    texts = [up(script) for script in scripts]
    assert lint(parse_files(*texts)) == lint(parse_files(*texts))
    earlier = lint(parse_files(*texts[:-1]))
    assert [finding for finding in lint(parse_files(*texts)) if finding in earlier] == earlier
