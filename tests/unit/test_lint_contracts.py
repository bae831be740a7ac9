"""The rules about contract migrations: their place in a change, and what does not belong into them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from migrations.lint.linter import lint
from tests.lint_command import run, write
from tests.lint_files import DOWN, parse_files, rules, up

if TYPE_CHECKING:
    from pathlib import Path

    from migrations.lint.finding import Finding

BEFORE = up(
    """
    create table t (id bigint primary key, a int, b int);
    create view w as select 1 as one;
    create type mood as enum ('calm');
    create table parts (id bigint) partition by range (id);
    """
)
OPTIONS = "contract compatible-from:20250101000000_x"
CONTRACT = up("alter table t drop column a;", OPTIONS)
EXPAND = up("alter table t add column c int;")

# What a change adds to a history, and whether lint says so of its first file.
NOT_LAST: dict[str, tuple[str, ...]] = {
    "an expand behind it": (CONTRACT, EXPAND),
    "an expand two behind it": (CONTRACT, CONTRACT, EXPAND),
    "a new table behind it": (CONTRACT, up("create table fresh (id bigint);")),
    "another contract behind both": (CONTRACT, EXPAND, CONTRACT),
}
LAST: dict[str, tuple[str, ...]] = {
    "it alone": (CONTRACT,),
    "contracts alone": (CONTRACT, CONTRACT),
    "an expand before it": (EXPAND, CONTRACT),
    "no contract": (EXPAND, EXPAND),
}
ADDED = [
    "alter table t add column c int",
    "alter table t drop column a, add column c int",
    "alter table t add column c int; update t set c = a; alter table t drop column a",
    "create table fresh (id bigint)",
    "drop table t; create table fresh (id bigint)",
    "drop view w; create view x as select 1 as one",
    "create materialized view m as select 1 as one",
    "alter type mood add value 'glad'",
    "do $$ begin alter table t add column c int; end $$",
]
REPLACED = [
    "alter table t drop column a",
    "alter table t drop column a; alter table t add column a bigint",
    "alter table t add column c bigint; alter table t drop column a; alter table t rename c to a",
    "alter table t add column if not exists a int",
    "drop table t; create table t (id bigint)",
    "alter table t rename to t_old; create view t as select 1 as one",
    "drop view w; create view w as select 1 as two",
    "create or replace view w as select 2 as one",
    "create temporary table scratch (id bigint); alter table scratch add column c int; drop table scratch",
    "create table scratch (id bigint); alter table scratch add column c int; drop table scratch",
    "create table t_archive as select * from t; drop table t",
    "create table parts_1 partition of parts for values from (1) to (2)",
    "create type taste as enum ('sweet'); alter type taste add value 'sour'",
    "alter table t alter b set default 1; create index concurrently i on t (b)",
    "alter type mood rename value 'calm' to 'quiet'",
]


def in_change(*texts: str) -> list[Finding]:
    """Lint files as a change: on top of an older one, which is not judged."""
    first, *others = parse_files(BEFORE, *texts)
    return lint([replace(first, is_judged=False), *others])


def not_last(found: list[Finding]) -> list[tuple[str, int]]:
    """Return the file and line of each contract that is not last."""
    return [(each.path, each.line) for each in found if any(r.rule == "contract-not-last" for r in each.reasons)]


@pytest.mark.parametrize("texts", NOT_LAST.values(), ids=NOT_LAST)
def test_a_contract_before_an_expand_of_its_change_is_found(texts: tuple[str, ...]) -> None:
    """At its first statement; the message names the migration behind it, and the error makes lint fail."""
    found = in_change(*texts)
    assert ("20250101000001_x.sql", 2) in not_last(found)
    behind = next(index for index, text in enumerate(texts, 1) if text != CONTRACT)
    reason = next(r for each in found for r in each.reasons if r.rule == "contract-not-last")
    assert reason.message.startswith(f"{20250101000000 + behind}_x comes after this contract migration")
    assert reason.level == "error"


@pytest.mark.parametrize("texts", LAST.values(), ids=LAST)
def test_a_contract_that_is_last_in_its_change_is_not_found(texts: tuple[str, ...]) -> None:
    """Nor is one of an older change, which a later release has expanded again."""
    assert not_last(in_change(*texts)) == []


@pytest.mark.parametrize("texts", [*NOT_LAST.values(), *LAST.values()], ids=[*NOT_LAST, *LAST])
def test_in_a_whole_history_the_order_is_free(tmp_path: Path, texts: tuple[str, ...]) -> None:
    """Lint does not know then which migrations were released together; nor does a later change find an older one."""
    files = {f"{20250101000000 + number}_x.sql": text for number, text in enumerate((BEFORE, *texts))}
    directory = write(tmp_path, {**files, "20250102000000_y.sql": EXPAND})
    for paths in ([directory], [directory / "20250102000000_y.sql"]):
        assert all(rule != "contract-not-last" for _, _, rule in run(*paths).found())


def test_a_contract_that_its_own_image_needs_is_found() -> None:
    """Its compatible-from is newer than all else that the image needs: that is a finding, and what it adds is none."""
    own = up(
        "alter table t drop column a; alter table t add column c int;", "contract compatible-from:20250101000001_x"
    )
    found = in_change(own)
    assert not_last(found) == [("20250101000001_x.sql", 2)]
    assert [reason.rule for each in found for reason in each.reasons if reason.level != "advice"] == [
        "contract-not-last"
    ]
    assert "is older than its compatible-from:20250101000001_x" in found[0].gravest.message
    assert not_last(in_change(EXPAND, CONTRACT.replace("000000_x", "000001_x"))) == []


def test_a_contract_that_was_merged_late_is_found() -> None:
    """A migration of the history that is newer than it makes it part of the expand phase too."""
    first, second, third = parse_files(BEFORE, CONTRACT, EXPAND)
    found = lint([replace(first, is_judged=False), second, replace(third, is_judged=False)])
    assert not_last(found) == [("20250101000001_x.sql", 2)]


@pytest.mark.parametrize("sql", ADDED)
def test_what_a_contract_adds_is_found(sql: str) -> None:
    """Images do not wait for it; in an expand migration, and in a contract that is needed, it is right."""
    assert "expand-in-contract" in rules(BEFORE, up(sql, OPTIONS))
    assert "expand-in-contract" not in rules(BEFORE, up(sql))
    first, second, third = parse_files(BEFORE, up(sql, OPTIONS), EXPAND)
    names = {reason.rule for finding in lint([first, second, third]) for reason in finding.reasons}
    assert "expand-in-contract" not in names


@pytest.mark.parametrize("sql", REPLACED)
def test_what_a_contract_replaces_is_not_found(sql: str) -> None:
    """A name that existed before, and objects that no image uses, may be created."""
    assert "expand-in-contract" not in rules(BEFORE, up(sql, OPTIONS))


def test_comments_and_lint_toml_allow_them(tmp_path: Path) -> None:
    """They are allowed as every rule is: in the head, before the statement, and by the file's name."""
    directory = write(tmp_path, {"20250101000000_a.sql": BEFORE, "20250103000000_c.sql": EXPAND})
    contract = directory / "20250102000000_b.sql"
    up_line = "-- migrate:up contract compatible-from:20250101000000_a\n"
    drop = "alter table t drop column a;\n"
    comment = "-- lint:allow contract-not-last because nothing runs yet\n"
    files = (contract, directory / "20250103000000_c.sql")
    contract.write_text(f"{up_line}{drop}{DOWN}")
    assert run(*files).found() == [(contract.name, 2, "contract-not-last")]
    for text in (f"{comment}{up_line}{drop}{DOWN}", f"{up_line}{comment}{drop}{DOWN}"):
        contract.write_text(text)
        assert run(*files).found() == []
    assert run(directory).found() == []  # the comment is not called unused where the rule does not count
    contract.write_text(f"{up_line}{drop}{DOWN}")
    write(
        directory,
        {"lint.toml": f'[[allow]]\nfile = "{contract.name}"\nrules = ["contract-not-last"]\nbecause = "none runs"\n'},
    )
    assert run(*files).found() == []
    assert run(directory).document["notes"] == []


def test_a_contract_in_python_is_found_too(tmp_path: Path) -> None:
    """Lint cannot read its statements, but it knows its place."""
    directory = write(
        tmp_path,
        {
            "20250101000000_a.sql": BEFORE,
            "20250102000000_b.py": 'compatible_from = "20250101000000_a"\nasync def up(connection): ...\ndown = None\n',
            "20250103000000_c.sql": EXPAND,
        },
    )
    found = run(directory / "20250102000000_b.py", directory / "20250103000000_c.sql").found()
    assert [(name, rule) for name, _, rule in found] == [("20250102000000_b.py", "contract-not-last")]
