"""Cutting a script into statements."""

from __future__ import annotations

import pytest

from migrations.runner.splitter import IndexAction, IndexOperation, SplitError, TransactionUse, split_statements


@pytest.mark.parametrize(
    ("sql", "nature"),
    [
        ("select 1", TransactionUse.PLAIN),
        ("analyze t", TransactionUse.PLAIN),
        ("alter type t add value 'x'", TransactionUse.PLAIN),
        ("set local x.y = 1", TransactionUse.PLAIN),
        ("do $$ begin perform 1; end $$", TransactionUse.PLAIN),
        ("do $$ begin commit; end $$", TransactionUse.LONE),
        ("call p()", TransactionUse.LONE),
        ("vacuum t", TransactionUse.LONE),
        ("create database d", TransactionUse.LONE),
        ("alter system set x = 1", TransactionUse.LONE),
        ("reindex table t", TransactionUse.LONE),
        ("alter table t detach partition p concurrently", TransactionUse.LONE),
        ("alter table t detach partition p", TransactionUse.PLAIN),
        ("commit prepared 'x'", TransactionUse.LONE),
        ("set search_path = a", TransactionUse.SETTING),
        ("select set_config('a.b', 'c', false)", TransactionUse.SETTING),
        ("reset all", TransactionUse.SETTING),
        ("begin", TransactionUse.BLOCK),
        ("rollback", TransactionUse.BLOCK),
        ("savepoint s", TransactionUse.BLOCK),
        ("end", TransactionUse.COMMIT),
    ],
)
def test_natures(sql: str, nature: TransactionUse) -> None:
    """What PostgreSQL refuses in a transaction stands alone; what changes the session is known as that."""
    assert [piece.nature for piece in split_statements(sql)] == [nature]


@pytest.mark.parametrize(
    ("sql", "work", "repeatable"),
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
def test_work_on_indexes(sql: str, work: IndexOperation, *, repeatable: bool) -> None:
    """What CONCURRENTLY may leave is known by name, and whether the statement may simply run again."""
    (piece,) = split_statements(sql)
    assert (piece.index, piece.repeatable, piece.nature) == (work, repeatable, TransactionUse.LONE)


def test_offsets_are_characters() -> None:
    """Comments, strings and letters of more than one byte do not shift them."""
    sql = "-- é;\nselect 'ü;ö'; /* ; */\ncreate table ä (id int);\n\nselect $$;$$"
    pieces = split_statements(sql)
    assert len(pieces) == 3
    assert all(sql[piece.offset :].startswith(piece.text) for piece in pieces)


def test_what_the_grammar_refuses() -> None:
    """The position is that of the mistake, in characters."""
    with pytest.raises(SplitError, match="selec") as caught:
        split_statements("create table öne (id int);\nselec 1;")
    assert caught.value.position == 27
