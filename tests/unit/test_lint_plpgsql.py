"""The statements of a DO block are judged like any others."""

from __future__ import annotations

import pytest

from tests.lint_files import findings, rules, up

TABLE = up("create table t (id bigint primary key)")
ADD = "alter table t add column c int not null"


def block(body: str) -> str:
    """Return the text of a file with a DO block."""
    return up(f"do $$\ndeclare n int;\nbegin\n{body}\nend $$;")


@pytest.mark.parametrize(
    "body",
    [
        f"{ADD};",
        f"if not exists (select from pg_class) then\n{ADD};\nend if;",
        f"begin\n{ADD};\nexception when duplicate_column then null;\nend;",
        f"for n in 1..2 loop\n{ADD};\nend loop;",
        f"execute '{ADD}';",
    ],
)
def test_a_hazard_in_a_block_is_found(body: str) -> None:
    """A hazard is found under a condition, in a loop, beside an exception handler and in a constant string, too."""
    assert rules(TABLE, block(body)) == rules(TABLE, up(ADD))
    assert "do-block" not in rules(TABLE, block(body))


@pytest.mark.parametrize(
    "body",
    [
        "for n in update t set id = 1 returning id loop null; end loop;",
        "for n in delete from t returning id loop null; end loop;",
        "for n in update t set id = 1 returning id loop delete from t; end loop;",
    ],
)
def test_the_query_of_a_loop_is_judged(body: str) -> None:
    """The query of a FOR loop may modify rows with RETURNING, and is judged like the statements inside the loop."""
    assert "bulk-write" in rules(TABLE, block(body))


def test_a_finding_in_a_block_names_the_line_of_its_statement() -> None:
    """Not that of the block; the second of two equal statements has its own line."""
    text = block(f"perform 1;\n{ADD};\n{ADD};")
    lines = [finding.line for finding in findings(TABLE, text)]
    assert sorted(set(lines)) == [6, 7]
    assert text.splitlines()[5] == f"{ADD};"


def test_a_comment_above_the_block_allows_it() -> None:
    """One comment above the block covers every statement in it."""
    (rule,) = set(rules(TABLE, up(ADD)))
    allowed = f"-- lint:allow {rule} because the table is empty\n"
    assert rules(TABLE, up(f"{allowed}do $$ begin {ADD}; end $$")) == []


@pytest.mark.parametrize(
    "sql",
    [
        "do $$ begin execute format('drop table %I', 't'); end $$",
        "do $$ begin execute 'drop table ' || 't'; end $$",
        "do language plperl $$ elog(INFO, 'x') $$",
        "do $$ declare r record; begin for r in execute 'select ' || '1' loop null; end loop; end $$",
    ],
)
def test_a_block_that_lint_cannot_read_is_reported(sql: str) -> None:
    """A block without findings has been read completely, or it has the finding do-block."""
    assert "do-block" in rules(up(sql))


def test_the_body_of_a_function_is_not_judged() -> None:
    """CREATE FUNCTION does not run it."""
    body = f"create function f() returns void language plpgsql as $$ begin {ADD}; end $$"
    assert rules(TABLE, up(body)) == []
