"""`-- lint:allow` allows a finding where it must, and is a finding itself where it allows nothing."""

from __future__ import annotations

import pytest

from tests.lint_files import rules, up

INDEX = "create index i on t (a)"


@pytest.mark.parametrize(
    "text",
    [
        up(f"-- lint:allow index-not-concurrent because t is small\n{INDEX}"),
        up(f"/* lint:allow index-not-concurrent because: t is small */ {INDEX}"),
        up(f"-- Lists.\n-- lint:allow index-not-concurrent because t is\n-- small, and will be\n\n{INDEX}"),
        up("create index i\n-- lint:allow index-not-concurrent because t is small\non t (a)"),
        f"-- lint:allow index-not-concurrent because t is small\n{up(f'{INDEX}; {INDEX}')}",
        up(f"-- lint:allow index-not-concurrent because t is small\n-- about: truncate because t is small\n{INDEX};"),
    ],
)
def test_a_finding_is_allowed_by_a_comment(text: str) -> None:
    """The comment stands above or inside the statement, or in the head of the file for all statements."""
    assert rules(text) == []


def test_rules_are_allowed_by_as_many_comments() -> None:
    """All cover the next statement."""
    names = ("drop-without-contract", "unique-without-index", "constraint-without-contract")
    allows = [f"-- lint:allow {rule} because we know" for rule in names]
    assert rules(up("\n".join([*allows, "alter table t drop a, add unique (b)"]))) == []


def test_a_comment_is_for_one_statement() -> None:
    """The statement after it is judged as usual."""
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
def test_a_comment_that_allows_nothing_is_found(comment: str, found: list[str]) -> None:
    """A comment without effect suggests that a finding is allowed, or could hide a later one."""
    assert rules(up(f"{comment}\n{INDEX}")) == found
    assert rules(f"-- head\n{up(INDEX)}{comment}") == ["index-not-concurrent", *found[:-1]]


def test_a_syntax_error_can_be_allowed() -> None:
    """The comments of a script that cannot be parsed are read all the same."""
    assert rules(up("-- lint:allow syntax because it is a template\nselec 1")) == []
