"""Splitting a script into statements."""

from __future__ import annotations

import pytest

from migrations.runner.splitter import IndexAction, IndexOperation, SplitError, TransactionUse, split_statements


@pytest.mark.parametrize(
    ("sql", "transaction_use"),
    [
        ("select 1", TransactionUse.TRANSACTIONAL),
        ("analyze t", TransactionUse.TRANSACTIONAL),
        ("alter type t add value 'x'", TransactionUse.TRANSACTIONAL),
        ("set local x.y = 1", TransactionUse.TRANSACTIONAL),
        ("do $$ begin perform 1; end $$", TransactionUse.TRANSACTIONAL),
        ("do $$ begin commit; end $$", TransactionUse.NON_TRANSACTIONAL),
        ("call p()", TransactionUse.NON_TRANSACTIONAL),
        ("vacuum t", TransactionUse.NON_TRANSACTIONAL),
        ("create database d", TransactionUse.NON_TRANSACTIONAL),
        ("alter system set x = 1", TransactionUse.NON_TRANSACTIONAL),
        ("reindex table t", TransactionUse.NON_TRANSACTIONAL),
        ("alter table t detach partition p concurrently", TransactionUse.NON_TRANSACTIONAL),
        ("alter table t detach partition p", TransactionUse.TRANSACTIONAL),
        ("commit prepared 'x'", TransactionUse.NON_TRANSACTIONAL),
        ("set search_path = a", TransactionUse.SESSION_SETTING),
        ("select set_config('a.b', 'c', false)", TransactionUse.SESSION_SETTING),
        ("reset all", TransactionUse.SESSION_SETTING),
        ("begin", TransactionUse.CONTROL),
        ("rollback", TransactionUse.CONTROL),
        ("savepoint s", TransactionUse.CONTROL),
        ("end", TransactionUse.COMMIT),
    ],
)
def test_transaction_use(sql: str, transaction_use: TransactionUse) -> None:
    """What PostgreSQL refuses in a transaction is non-transactional; what changes the session is a setting."""
    assert [statement.transaction_use for statement in split_statements(sql)] == [transaction_use]


@pytest.mark.parametrize(
    ("sql", "operation", "repeatable"),
    [
        ("create index concurrently i on s.t (x)", IndexOperation(IndexAction.CREATE, "s", "i"), False),
        ("create index concurrently if not exists i on t (x)", IndexOperation(IndexAction.CREATE, None, "i"), True),
        ("create index concurrently on t (x)", IndexOperation(IndexAction.CREATE, None, None), False),
        ("drop index concurrently s.i", IndexOperation(IndexAction.DROP, "s", "i"), False),
        ("drop index concurrently if exists i", IndexOperation(IndexAction.DROP, None, "i"), True),
        ("reindex index concurrently s.i", IndexOperation(IndexAction.REINDEX, "s", "i"), True),
        ("reindex (concurrently, verbose) table t", IndexOperation(IndexAction.REINDEX_TABLE, None, "t"), True),
    ],
)
def test_index_operations(sql: str, operation: IndexOperation, *, repeatable: bool) -> None:
    """The index that CONCURRENTLY may leave is known by name, and whether the statement may run again."""
    (statement,) = split_statements(sql)
    assert (statement.index, statement.repeatable, statement.transaction_use) == (
        operation,
        repeatable,
        TransactionUse.NON_TRANSACTIONAL,
    )


def test_offsets_are_characters() -> None:
    """Comments, strings and characters of several bytes do not shift them."""
    sql = "-- é;\nselect 'ü;ö'; /* ; */\ncreate table ä (id int);\n\nselect $$;$$"
    statements = split_statements(sql)
    assert len(statements) == 3
    assert all(sql[statement.offset :].startswith(statement.text) for statement in statements)


def test_a_syntax_error() -> None:
    """The position is that of the error, in characters."""
    with pytest.raises(SplitError, match="selec") as caught:
        split_statements("create table öne (id int);\nselec 1;")
    assert caught.value.position == 27


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("create temporary table t (id int)", ["temporary table"]),
        ("create table pg_temp.t (id int)", ["temporary table"]),
        ("create temp sequence s", ["temporary table"]),
        ("create temp table t on commit drop as select 1", []),
        ("create function pg_temp.f() returns int language sql as 'select 1'", ["temporary object"]),
        ("create function f() returns int language sql set search_path = pg_catalog, pg_temp as 'select 1'", []),
        ("create type pg_temp.mood as enum ('calm')", ["temporary object"]),
        ("declare c cursor with hold for select 1", ["cursor"]),
        ("declare c cursor for select 1", []),
        ("select pg_try_advisory_lock_shared(1)", ["advisory lock"]),
        ("select pg_advisory_xact_lock(1)", []),
        ("do $$ begin set search_path = x; end $$", ["setting"]),
        ("do $$ begin set local search_path = x; update t set a = 1; end $$", []),
        ("select set_config('a.b', (select 'x'), false)", ["setting"]),
        ("select set_config('a.b', 'x'::text, false)", []),
        ("create function f() returns void language sql as 'select pg_advisory_lock(1)'", []),
        ("update t set a = 'temp'", []),
    ],
)
def test_what_a_statement_makes_in_its_session(sql: str, kinds: list[str]) -> None:
    """Only what ends with the session, and cannot be made again by itself."""
    (statement,) = split_statements(sql)
    assert [made.kind for made in statement.makes] == kinds
