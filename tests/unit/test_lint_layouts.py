"""Every tool's directory is read as it is, with no flag but its name, and in the transactions that the tool makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.lint.scripts.history import read_directory
from tests.lint_command import run, write

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "create table users (id bigint primary key, email text);\n"
INDEX = "create index users_email on users (email);\n"
ALONE = "create index concurrently users_email on users (email);\n"
MIXED = f"alter table users add column age int;\n{ALONE}"
DOWN = "drop table users;\n"
JOURNAL = '{"entries": [{"idx": 1, "tag": "0001_b"}, {"idx": 0, "tag": "0000_a"}]}'
CARGO = {"Cargo.toml": "[package]\n"}


def goose(sql: str, word: str = "") -> str:
    """Return a file of goose."""
    return f"{word}-- +goose Up\n{sql}-- +goose Down\n{DOWN}"


# Name of the layout, its files with TABLE first and `{sql}` in the second migration, and the line of that.
SHAPES: dict[str, tuple[dict[str, str], str, int]] = {
    "ledgergate": (
        {
            "20250101000000_a.sql": f"-- migrate:up\n{TABLE}-- migrate:down\n{DOWN}",
            "20250101000001_b.sql": "-- migrate:up\n{sql}-- migrate:down\nselect 1;\n",
        },
        "20250101000001_b.sql",
        2,
    ),
    "dbmate": (
        {
            "0001_a.sql": f"-- migrate:up\n{TABLE}-- migrate:down\n{DOWN}",
            "0002_b.sql": "-- migrate:up\n{sql}-- migrate:down\nselect 1;\n",
        },
        "0002_b.sql",
        2,
    ),
    "goose": (
        {
            "00001_a.sql": goose(TABLE),
            "00002_b.sql": "-- +goose Up\n{sql}-- +goose Down\nselect 1;\n",
            "00003_c.go": "x",
        },
        "00002_b.sql",
        2,
    ),
    "sql-migrate": (
        {"1_a.sql": f"-- +migrate Up\n{TABLE}", "2_b.sql": "-- +migrate Up\n{sql}-- +migrate Down\nselect 1;\n"},
        "2_b.sql",
        2,
    ),
    "golang-migrate": (
        {
            "000001_a.up.sql": TABLE,
            "000001_a.down.sql": DOWN,
            "000010_b.up.sql": "{sql}",
            "000010_b.down.sql": "select 1;\n",
            "000009_other.up.sql": "select 1;\n",
        },
        "000010_b.up.sql",
        1,
    ),
    "flyway": (
        {
            "V1__a.sql": TABLE,
            "v/V2.1__b.sql": "{sql}",
            "U2.1__b.sql": "select 1;\n",
            "R__view.sql": "create or replace view v as select 1 as one;\n",
            "beforeMigrate.sql": "select no sql;",
        },
        "V2.1__b.sql",
        1,
    ),
    "sqlx": (
        {"m/20250101_a.sql": TABLE, "m/20250102_b.sql": "{sql}", **CARGO},
        "20250102_b.sql",
        1,
    ),
    "prisma": (
        {
            "20250101000000_a/migration.sql": TABLE,
            "20250102000000_b/migration.sql": "{sql}",
            "migration_lock.toml": 'provider = "postgresql"\n',
        },
        "migration.sql",
        1,
    ),
    "diesel": (
        {
            "2025-01-01-000000_a/up.sql": TABLE,
            "2025-01-01-000000_a/down.sql": DOWN,
            "2025-01-02-000000_b/up.sql": "{sql}",
            "2025-01-02-000000_b/down.sql": "select 1;\n",
        },
        "up.sql",
        1,
    ),
    "drizzle": (
        {
            "meta/_journal.json": JOURNAL,
            "0000_a.sql": f"{TABLE}--> statement-breakpoint\nselect 1;\n",
            "0001_b.sql": "{sql}",
        },
        "0001_b.sql",
        1,
    ),
    "node-pg-migrate": (
        {
            "1700000000000_a.sql": f"-- Up Migration\n{TABLE}-- Down Migration\n{DOWN}",
            "1700000000001_b.sql": "-- Up Migration\n{sql}-- Down Migration\nselect 1;\n",
        },
        "1700000000001_b.sql",
        2,
    ),
    "atlas": ({"20250101_a.sql": TABLE, "20250102_b.sql": "{sql}", "atlas.sum": "h1:x\n"}, "20250102_b.sql", 1),
    "plain": ({"1_a.sql": TABLE, "2_z.sql": "select 1;\n", "10_b.sql": "{sql}"}, "10_b.sql", 1),
}


def directory(tmp_path: Path, layout: str, sql: str) -> Path:
    """Write a tool's directory whose second migration has the SQL."""
    files, _, _ = SHAPES[layout]
    write(
        tmp_path, {name: text if name.endswith(".json") else text.replace("{sql}", sql) for name, text in files.items()}
    )
    return tmp_path / "m" if layout == "sqlx" else tmp_path


@pytest.mark.parametrize("layout", SHAPES)
def test_a_tools_directory_is_read_without_a_flag(layout: str, tmp_path: Path) -> None:
    """The layout is found, and the hazard in the second migration is on its line; a clean one has no finding."""
    root = directory(tmp_path, layout, INDEX)
    assert read_directory(root, "auto", ()).layout == layout
    result = run(root)
    _, file, line = SHAPES[layout]
    assert (result.code, result.found()) == (2, [(file, line, "index-not-concurrent")])
    directory(tmp_path, layout, "create table posts (id bigint primary key);\n")
    assert run(root).found() == []


# What the tool does with CONCURRENTLY alone, beside another statement, and with its own word for no transaction.
IN_TRANSACTION = {
    "ledgergate",
    "dbmate",
    "goose",
    "sql-migrate",
    "sqlx",
    "diesel",
    "drizzle",
    "node-pg-migrate",
    "atlas",
}


@pytest.mark.parametrize("layout", SHAPES)
def test_a_statement_outside_a_transaction_is_judged_as_the_tool_runs_it(layout: str, tmp_path: Path) -> None:
    """Refused where the tool begins a transaction; alone, it passes where the tool sends the file as one query."""
    alone = [rule for _, _, rule in run(directory(tmp_path, layout, ALONE)).found()]
    assert alone == (["cannot-run-in-transaction"] if layout in IN_TRANSACTION else [])
    mixed = [rule for _, _, rule in run(directory(tmp_path, layout, MIXED)).found()]
    assert mixed == (["concurrently-not-alone"] if layout == "plain" else ["cannot-run-in-transaction"])


WITHOUT_TRANSACTION = [
    ({"20250101000000_a.sql": f"-- migrate:up transaction:false\n{ALONE}-- migrate:down\nselect 1;\n"}, "ledgergate"),
    ({"1_a.sql": f"-- migrate:up transaction:false\n{ALONE}-- migrate:down\nselect 1;\n"}, "dbmate"),
    ({"00001_a.sql": goose(ALONE, "-- +goose NO TRANSACTION\n")}, "goose"),
    ({"1_a.sql": f"-- +migrate Up notransaction\n{ALONE}"}, "sql-migrate"),
    ({"1_a.sql": f"-- no-transaction\n{ALONE}"}, "sqlx"),
    ({"1_a/up.sql": ALONE, "1_a/metadata.toml": "run_in_transaction = false\n"}, "diesel"),
    ({"1_a.sql": f"-- atlas:txmode none\n\n{ALONE}", "atlas.sum": "h1:x"}, "atlas"),
    ({"V1__a.sql": f"{MIXED}", "V1__a.sql.conf": "executeInTransaction=false\n"}, "flyway"),
    ({"a.sql": f"begin;\nselect 1;\ncommit;\n{ALONE}"}, "plain"),
]


@pytest.mark.parametrize(("files", "layout"), WITHOUT_TRANSACTION)
def test_a_tools_own_word_for_no_transaction_is_known(files: dict[str, str], layout: str, tmp_path: Path) -> None:
    """Nothing is refused then."""
    write(tmp_path, files)
    assert read_directory(tmp_path, "auto", ()).layout == layout
    assert "cannot-run-in-transaction" not in [rule for _, _, rule in run(tmp_path).found()]


def test_the_safe_way_uses_the_words_of_the_tool(tmp_path: Path) -> None:
    """`transaction:false` is a word of dbmate; another tool's user could not use it."""
    words = {
        "goose": "-- +goose NO TRANSACTION",
        "sql-migrate": "notransaction",
        "golang-migrate": "the only statement of its migration",
        "flyway": "which Flyway runs outside a transaction",
        "sqlx": "-- no-transaction",
        "prisma": "the only statement of its migration",
        "diesel": "run_in_transaction = false",
        "atlas": "atlas:txmode none",
        "ledgergate": "transaction:false",
        "dbmate": "transaction:false",
    }
    for layout, word in words.items():
        (finding,) = run(directory(tmp_path / layout, layout, INDEX)).document["findings"]
        assert any(word in line for line in finding["safe"]), layout


def test_a_query_of_several_statements_is_one_transaction(tmp_path: Path) -> None:
    """golang-migrate and Prisma send a file as one query, which PostgreSQL runs in one transaction up to a COMMIT."""
    lock = "alter table users add column age int;\n"
    write_rows = "update users set age = 1 where id = 1;\n"
    for layout in ("golang-migrate", "prisma"):
        root = directory(tmp_path / layout, layout, lock + write_rows)
        assert [rule for _, _, rule in run(root).found()] == ["mixed-ddl-dml"]
        assert run(directory(tmp_path / layout, layout, f"begin;\n{lock}commit;\n{write_rows}")).found() == []


def test_structure_sql_of_rails_gives_no_finding_for_its_settings(tmp_path: Path) -> None:
    """It is loaded into an empty database by psql, whose commands a newer pg_dump writes."""
    data = "copy users from stdin;\n1\ta\n\\.\n"
    text = f"\\restrict abc\nset statement_timeout = 0;\n{TABLE}{INDEX}{data}\\unrestrict abc\n"
    write(tmp_path, {"structure.sql": text, "schema_cache.yml": "x"})
    assert read_directory(tmp_path, "auto", ()).layout == "rails"
    assert run(tmp_path).found() == []


@pytest.mark.parametrize(
    "variable",
    ["${schema}.users", "{{ schema }}.users", '"${schema}"."users"', "<%= schema %>.users", ':"schema".users'],
)
def test_the_variables_of_a_template_are_tolerated(variable: str, tmp_path: Path) -> None:
    """The statement is judged with a name in the place of the variable, on the same line and column."""
    text = f"select '${{value}}' as text;\n{{% if x %}}\n  create index i on {variable} (email);\n{{% endif %}}\n"
    write(tmp_path, {"V1__a.sql": text})
    result = run(tmp_path)
    assert result.found() == [("V1__a.sql", 3, "index-not-concurrent")]
    assert result.document["findings"][0]["column"] == 3


def test_a_template_that_is_no_sql_is_only_advice(tmp_path: Path) -> None:
    """A template that is not SQL is only advice, since the SQL that it makes may be right."""
    write(tmp_path, {"V1__a.sql": "create table ${definition};\n", "V2__b.sql": INDEX})
    result = run(tmp_path)
    assert [f["rule"] for f in result.document["findings"]] == ["template", "index-not-concurrent"]
    write(tmp_path, {"V1__a.sql": "create tabel x ();\n"})
    assert [rule for _, _, rule in run(tmp_path).found()] == ["syntax", "index-not-concurrent"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "it is empty"),
        ({"a.rb": "x", "b.rb": "y"}, "2 of .rb"),
        ({"001_initial.py": "x"}, "alembic upgrade --sql head"),
        ({"changes.xml": "x"}, "liquibase update-sql"),
        ({"README.md": "x"}, "1 of .md"),
    ],
)
def test_a_directory_without_a_file_that_was_read_fails(files: dict[str, str], said: str, tmp_path: Path) -> None:
    """Green would mean that the migrations are fine."""
    result = run(write(tmp_path, files))
    (finding,) = result.document["findings"]
    assert (result.code, finding["rule"]) == (2, "file")
    assert said in finding["message"]
    assert run(tmp_path, fail_on="never").code == 2


def test_a_directory_of_another_layout_than_the_named_one_fails(tmp_path: Path) -> None:
    """`--dialect goose` on Prisma's directory reads nothing."""
    root = directory(tmp_path, "prisma", INDEX)
    result = run(root, dialect="goose")
    assert (result.code, result.document["files"]) == (2, 0)
    assert "as goose keeps them" in result.document["findings"][0]["message"]


@pytest.mark.parametrize("layout", SHAPES)
def test_one_bad_file_does_not_silence_the_others(layout: str, tmp_path: Path) -> None:
    """A file that is no UTF-8 is a finding beside those in the other files."""
    root = directory(tmp_path, layout, INDEX)
    first = next(root / name.removeprefix("m/") for name in SHAPES[layout][0] if "_a" in name)
    first.write_bytes(b"-- migrate:up\n-- +goose Up\nselect '\xff';\n")
    rules = {rule for _, _, rule in run(root).found()}
    assert {"file", "index-not-concurrent"} <= rules


def test_files_are_judged_on_top_of_their_directory(tmp_path: Path) -> None:
    """pre-commit names the changed files only; the older ones show the type of a column."""
    root = directory(tmp_path, "flyway", "alter table users alter email type varchar;\n")
    file = root / "v" / "V2.1__b.sql"
    assert run(root).found() == []
    for layout in ("goose", "diesel", "prisma"):
        home = directory(tmp_path / layout, layout, "alter table users alter email type varchar;\n")
        named = next(path for path in home.rglob("*b*") if path.name.endswith("b.sql") or path.is_dir())
        path = named if named.is_file() else next(named.glob("*.sql" if layout == "prisma" else "up.sql"))
        result = run(path)
        assert (result.code, result.found(), result.document["files"]) == (0, [], 1), layout
    assert run(file).document["files"] == 1


def test_standard_input_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input is judged as a file of no tool, or of the tool whose comments it has."""

    class Input:
        buffer = __import__("io").BytesIO(f"begin;\n{INDEX}commit;\n".encode())

    monkeypatch.setattr("sys.stdin", Input)
    assert run("-").found() == [("<stdin>", 2, "index-not-concurrent")]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "\n", " \r\n\t\n"])
def test_an_empty_standard_input_is_not_green(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What should have written it may have failed, as in `alembic upgrade head --sql | ledgergate migrate lint -`."""

    class Input:
        buffer = __import__("io").BytesIO(text.encode())

    monkeypatch.setattr("sys.stdin", Input)
    result = run("-", output="text")
    assert result.code == 2
    assert "<stdin>: file: expected SQL on standard input, found nothing" in result.output


def test_excluded_files_are_not_read(tmp_path: Path) -> None:
    """Files are excluded by name, by path or by folder."""
    root = directory(tmp_path, "flyway", INDEX)
    for pattern in ("V2.1__*", "v/*", "v", "*/V2*"):
        assert run(root, exclude=(pattern,)).found() == [], pattern
    assert run(root, exclude=("V3*",)).found() != []
