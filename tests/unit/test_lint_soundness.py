"""Histories in which lint once missed a hazard or reported a false one, as it must know what earlier files made.

What PostgreSQL does for the same statements is in tests/integration/test_lint_soundness.py.
"""

from __future__ import annotations

import pytest

from tests.lint_files import findings, rules, up
from tests.lint_harmless import HARMLESS
from tests.lint_histories import HAZARDS, MANY_REASONS, NOT_BULK, SELF_REFERENCES


@pytest.mark.parametrize(("kind", "before", "sql", "rule"), HAZARDS)
def test_a_hazard_of_a_history_is_found(kind: str, before: str, sql: str, rule: str) -> None:
    """The last file of the history breaks the rule."""
    assert rule in rules(up(before), up(sql)), kind


@pytest.mark.parametrize(("kind", "before", "sql"), HARMLESS)
def test_what_does_nothing_is_not_found(kind: str, before: str, sql: str) -> None:
    """The last file has no finding above advice."""
    found = [finding for finding in findings(up(before), up(sql)) if finding.level != "advice"]
    assert not found, (kind, found)


@pytest.mark.parametrize(("before", "sql", "kept"), MANY_REASONS)
def test_a_swap_of_enums_is_found_only_for_its_rewrite(before: str, sql: str, kept: list[str]) -> None:
    """The name of the type lives on, so neither rename nor drop breaks older images."""
    assert rules(up(before), up(sql)) == kept


@pytest.mark.parametrize("where", NOT_BULK)
def test_a_write_of_few_rows_is_not_found(where: str) -> None:
    """A key, a range of keys, values, and a subquery with a limit name few rows."""
    before = "create table users (id bigint primary key, email text unique, kind text, done boolean, at timestamptz);"
    assert rules(up(before), up(f"update users set done = true where {where};")) == []  # noqa: S608 - shown, never run
    assert rules(up(before), up(f"delete from users where {where};")) == []  # noqa: S608 - shown, never run


@pytest.mark.parametrize(("before", "sql", "rule"), SELF_REFERENCES)
def test_a_self_reference_names_its_table_once(before: str, sql: str, rule: str) -> None:
    """`nodes and nodes` would be two tables."""
    (finding,) = findings(up(before), up(sql))
    reason = next(each for each in finding.reasons if each.rule == rule)
    assert reason.message.count("nodes") == 1
    assert reason.tables == ("nodes",)


def test_a_statement_has_one_finding_with_every_reason() -> None:
    """An ALTER TABLE of many commands is one finding, and equal reasons are listed once."""
    commands = ", ".join(f"alter column c{number} type bigint" for number in range(52))
    (finding,) = findings(up(f"alter table t {commands};"))
    assert len(finding.reasons) == 52
    (finding,) = findings(up("alter table t alter c type bigint, alter c type bigint, add column d timestamp;"))
    assert [reason.rule for reason in finding.reasons] == ["type-change", "timestamp-without-time-zone"]


@pytest.mark.parametrize(
    ("version", "sql", "found"),
    [
        (None, "alter table t add column c int not null default 0", []),
        (10, "alter table t add column c int not null default 0", ["volatile-default"]),
        (11, "alter table t add column c int not null default 0", []),
        (11, "alter table t alter checked set not null", ["not-null-scan"]),
        (12, "alter table t alter checked set not null", []),
        (11, "alter type mood add value 'glad'", ["cannot-run-in-transaction"]),
        (12, "alter type mood add value 'glad'", []),
        (13, "create or replace trigger g before insert on t for each row execute function f()", ["newer-version"]),
        (14, "create or replace trigger g before insert on t for each row execute function f()", []),
        (
            14,
            "alter table t add constraint u unique nulls not distinct (checked)",
            ["newer-version", "constraint-without-contract"],
        ),
        (17, "alter table t add column c int generated always as (1) virtual", ["newer-version"]),
        (18, "alter table t add column c int generated always as (1) virtual", []),
        (17, "alter table t add constraint n not null checked not valid", ["newer-version"]),
    ],
)
def test_the_version_decides_what_is_slow_and_what_exists(version: int | None, sql: str, found: list[str]) -> None:
    """Without a version, every supported one counts: 13 and newer."""
    before = """
        create type mood as enum ('calm');
        create table t (id bigint primary key, checked int, constraint c check (checked is not null));
    """
    assert [rule for rule in rules(up(before), up(sql), version=version) if rule != "unique-without-index"] == found
