"""Where a finding is, how it is allowed, and what is written."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.cli.lint import lint_directory
from migrations.core.migration import FilesError
from migrations.files.native import parse
from migrations.lint import output
from migrations.lint.linter import RULES, File, lint
from migrations.lint.parser import ScriptError, comments, statements
from tests.lint_files import findings, read, rules, up

if TYPE_CHECKING:
    from migrations.lint.finding import Finding

DOCS = Path(__file__).parents[2] / "docs" / "lint.md"
INDEX = "create index i on t (a)"


def places(*texts: str) -> list[tuple[int, int]]:
    return [(finding.line, finding.column) for finding in findings(*texts)]


def test_a_finding_names_the_line_of_its_statement() -> None:
    """Not that of the comment above it, nor that of the statement's end."""
    text = up(f"/* é\n two */ -- x;\n\n  {INDEX.replace(' on', chr(10) + ' on')}; -- y\nselect 'é\n'; {INDEX};")
    assert places(text) == [(5, 3), (8, 4)]
    assert places(text.replace("\n", "\r\n")) == [(5, 3), (8, 4)]
    assert places("\ufeff" + text) == [(5, 3), (8, 4)]


def test_a_finding_in_the_head_of_a_file_or_below_a_head_is_counted_from_the_files_first_line() -> None:
    """Sections begin wherever they begin."""
    assert places(f"-- a\n-- b\n-- migrate:up\n{INDEX};\n-- migrate:down\nselect 1;\nvacuum;") == [(4, 1), (7, 1)]


@pytest.mark.parametrize(
    ("sql", "line", "column", "message"),
    [
        ("select 1;\n  é selec 1;", 3, 3, 'syntax error at or near "é"'),
        ("select 1;\nselect (1\n;", 4, 1, 'syntax error at or near ";"'),
        ("select 'a\nb", 2, 8, "unterminated quoted string at or near"),
        ("select 1;\n\\d users", 3, 1, 'syntax error at or near "\\"'),
        ("select 1 from\n", 2, 14, "syntax error at end of input"),
    ],
)
def test_what_cannot_be_parsed_is_found_where_postgresql_stumbles(
    sql: str, line: int, column: int, message: str
) -> None:
    """With PostgreSQL's own message, and nothing else of that section."""
    (finding,) = [finding for finding in findings(f"-- migrate:up\n{sql}") if finding.rule == "syntax"]
    assert (finding.line, finding.column) == (line, column)
    assert finding.message.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        up(f"-- lint:allow index-not-concurrent because t is small\n{INDEX}"),
        up(f"/* lint:allow index-not-concurrent because: t is small */ {INDEX}"),
        up(f"-- Lists.\n-- lint:allow index-not-concurrent because t is\n-- small, and will be\n\n{INDEX}"),
        up("create index i\n-- lint:allow index-not-concurrent because t is small\non t (a)"),
        f"-- lint:allow index-not-concurrent because t is small\n{up(f'{INDEX}; {INDEX}')}",
        up(
            f"-- lint:allow index-not-concurrent because t is small\n"
            f"-- lint:allow cannot-run-in-transaction because it never runs\n{INDEX}; "
        )
        .replace("index i", "index i")
        .replace("-- lint:allow cannot", "-- about: cannot"),
    ],
)
def test_a_finding_is_allowed_by_a_comment(text: str) -> None:
    """Above or inside its statement, or in the head for all of the file."""
    assert rules(text) == []


def test_two_rules_are_allowed_by_two_comments() -> None:
    """Both count for the one statement below."""
    allows = [f"-- lint:allow {rule} because we know" for rule in ("drop-without-contract", "unique-without-index")]
    assert rules(up("\n".join([*allows, "alter table t drop a, add unique (b)"]))) == []


def test_an_allowance_is_for_one_statement() -> None:
    """The next one is judged again."""
    assert rules(up(f"-- lint:allow index-not-concurrent because small\n{INDEX}; {INDEX}")) == ["index-not-concurrent"]


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("-- lint:allow index-not-concurrent", ["bad-allow", "index-not-concurrent"]),
        ("-- lint:allow index-not-concurrent because", ["bad-allow", "index-not-concurrent"]),
        ("-- lint:allow index-not-concurrent since it is small", ["bad-allow", "index-not-concurrent"]),
        ("-- lint:allow index because it is small", ["bad-allow", "index-not-concurrent"]),
        ("-- lint:allow", ["bad-allow", "index-not-concurrent"]),
        ("-- lint:ignore index-not-concurrent because it is small", ["bad-allow", "index-not-concurrent"]),
        ("-- lint:allow truncate because it is small", ["unused-allow", "index-not-concurrent"]),
        ("select '-- lint:allow index-not-concurrent because it is text';", ["index-not-concurrent"]),
        ("-- see lint:allow in docs/lint.md", ["index-not-concurrent"]),
    ],
)
def test_an_allowance_that_allows_nothing_is_found(comment: str, found: list[str]) -> None:
    """It would give its reader a false peace, or hide the next finding."""
    assert rules(up(f"{comment}\n{INDEX}")) == found
    assert rules(f"-- head\n{up(INDEX)}{comment}") == ["index-not-concurrent", *found[:-1]]


def test_a_broken_script_can_be_allowed_nothing_but_does_not_hide_its_comments() -> None:
    """Its statements are unknown, so an allowance in it is not called unused for another reason than that."""
    assert rules(up("-- lint:allow syntax because it is a template\nselec 1")) == []


def test_python_migrations_are_not_read() -> None:
    """Nothing but whether they can be undone."""
    text = 'async def up(connection):\n    await connection.execute("drop table t")\n'
    path = Path("20250101000000_x.py")
    assert [finding.rule for finding in lint([File(parse(path, text.encode()), text)])] == ["missing-down"]
    text += "\nasync def down(connection):\n    pass\n"
    assert lint([File(parse(path, text.encode()), text)]) == []


def _filled(directory: Path, *scripts: str) -> Path:
    for number, script in enumerate(scripts):
        (directory / f"{20250101000000 + number}_x.sql").write_text(script)
    return directory


def test_only_errors_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings and advice are for those who read them."""
    _filled(tmp_path, "-- migrate:up\ncreate table t (id serial primary key);")
    assert lint_directory(tmp_path, as_json=False, advice=False, rules=False) == 0
    text = capsys.readouterr().out
    assert (
        text.splitlines()[0]
        == f"{tmp_path}/20250101000000_x.sql:1: missing-down (warning): the migration cannot be undone"
    )
    assert text.splitlines()[-1] == "0 errors, 1 warning in 1 file; 1 of level advice not shown: --advice shows them"
    assert lint_directory(tmp_path, as_json=False, advice=True, rules=False) == 0
    assert "x.sql:2: integer-primary-key (advice): " in capsys.readouterr().out
    _filled(tmp_path, up("create table t ()"), up("truncate u"))
    assert lint_directory(tmp_path, as_json=False, advice=False, rules=False) == 2
    finding, locks, safe, *more, counts = capsys.readouterr().out.splitlines()
    assert finding.endswith("01_x.sql:2: truncate: TRUNCATE blocks reads and writes of u, and its rows are gone")
    assert locks == "    locks: ACCESS EXCLUSIVE on u, which blocks reads and writes"
    assert safe.startswith("    safe:  -- if the rows must go: in batches, ")
    assert more == ["           DELETE FROM u WHERE ...;"]
    assert counts == "1 error, 0 warnings in 2 files"


def test_files_that_cannot_be_used_are_findings_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a program gets one kind of answer."""
    _filled(tmp_path, "-- migrate:up\n", "select 1;")
    assert lint_directory(tmp_path, as_json=True, advice=False, rules=False) == 2
    document = json.loads(capsys.readouterr().out)
    assert [(found["rule"], found["line"]) for found in document["findings"]] == [("file", 1), ("file", 1)]
    assert lint_directory(tmp_path / "none", as_json=False, advice=False, rules=False) == 2
    assert capsys.readouterr().out.startswith(f"{tmp_path}/none: file: expected a directory of migrations, found none")


def test_the_json_keeps_its_form() -> None:
    """Programs read it: its keys and their types stay as they are."""
    document = json.loads(output.document(findings(up(INDEX)), 1))
    assert document == {
        "version": 1,
        "files": 1,
        "counts": {"error": 1, "warning": 0, "advice": 0},
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
            }
        ],
    }


def test_the_documentation_and_the_rules_are_in_step(capsys: pytest.CaptureFixture[str]) -> None:
    """Every rule has its section with its sentence, level, lock, source and other names; every section is of a rule."""
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", DOCS.read_text(), re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted(rule.name for rule in RULES)
    for rule in RULES:
        section = " ".join(sections[rule.name].split())
        assert section.startswith(rule.summary), rule.name
        assert f"- Level: {rule.level} " in section, rule.name
        assert (f"- Locks: {rule.lock}, which blocks {rule.lock.blocks} " if rule.lock else "- ") in section, rule.name
        assert ("- Locks: " in section) == (rule.lock is not None), rule.name
        assert f"- Source: <{rule.source}>" in section or rule.source == "docs/lint.md", rule.name
        assert all(f"`{name}`" in section for name in rule.others), rule.name
    assert lint_directory(Path(), as_json=False, advice=False, rules=True) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [rule.name for rule in RULES]


def test_the_sql_of_the_documentation_can_be_parsed() -> None:
    """Whoever copies it must get on."""
    for script in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL):
        lines = [line for line in script.splitlines() if not line.startswith(("at ", "code ", "id ", "data "))]
        statements("\n".join(lines).replace(" AND ...", ""))


def test_only_lint_pays_for_the_grammar() -> None:
    """The module that every command imports does without it."""
    source = (Path(__file__).parents[2] / "migrations" / "cli" / "lint.py").read_text()
    head = source.partition("def lint")[0]
    assert "pglast" not in head
    assert "migrations.lint" not in head
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
    """.split(" ")  # noqa: SIM905 - a hundred words in a hundred lines are no easier to read
)
STATEMENTS = st.lists(PIECES, max_size=40).map(" ".join)


def _lint(text: str) -> list[Finding]:
    try:
        return lint(read(text))
    except FilesError:
        return []


@given(st.one_of(st.text(), STATEMENTS), st.sampled_from(["", "transaction:false"]))
def test_lint_never_raises(text: str, options: str) -> None:
    """Whatever is in a file, there is an answer, and every place in it is a place in the file."""
    whole = f"-- migrate:up {options}\n{text}"
    lines = whole.count("\n") + 1
    assert all(1 <= finding.line <= lines for finding in _lint(whole))


@given(st.text(alphabet="ab;'\"-/*$\n é(", max_size=40))
def test_statements_and_comments_lie_where_they_say(text: str) -> None:
    """Their text is what the script has at their place."""
    for comment in comments(text):
        assert comment.text in text[comment.position :]
    try:
        found = statements(text)
    except ScriptError as error:
        found, position = (), error.position
        assert 0 <= position <= len(text)
    for statement in found:
        assert text[statement.position : statement.end] == statement.text


@given(st.lists(st.sampled_from([INDEX, "truncate t", "select 1", "drop table t", "create table t ()"]), max_size=6))
def test_the_same_files_give_the_same_findings(scripts: list[str]) -> None:
    """And no file changes what is found in an earlier one."""
    texts = [up(script) for script in scripts]
    assert lint(read(*texts)) == lint(read(*texts))
    earlier = lint(read(*texts[:-1]))
    assert [finding for finding in lint(read(*texts)) if finding in earlier] == earlier
