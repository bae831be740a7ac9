"""Cutting a script into statements."""

from __future__ import annotations

import pytest

from migrations.pieces import IndexWork, Nature, NotCut, Work, cut


@pytest.mark.parametrize(
    ("sql", "nature"),
    [
        ("select 1", Nature.PLAIN),
        ("analyze t", Nature.PLAIN),
        ("alter type t add value 'x'", Nature.PLAIN),
        ("set local x.y = 1", Nature.PLAIN),
        ("do $$ begin perform 1; end $$", Nature.PLAIN),
        ("do $$ begin commit; end $$", Nature.LONE),
        ("call p()", Nature.LONE),
        ("vacuum t", Nature.LONE),
        ("create database d", Nature.LONE),
        ("alter system set x = 1", Nature.LONE),
        ("reindex table t", Nature.LONE),
        ("alter table t detach partition p concurrently", Nature.LONE),
        ("alter table t detach partition p", Nature.PLAIN),
        ("commit prepared 'x'", Nature.LONE),
        ("set search_path = a", Nature.SETTING),
        ("select set_config('a.b', 'c', false)", Nature.SETTING),
        ("reset all", Nature.SETTING),
        ("begin", Nature.BLOCK),
        ("rollback", Nature.BLOCK),
        ("savepoint s", Nature.BLOCK),
        ("end", Nature.COMMIT),
    ],
)
def test_natures(sql: str, nature: Nature) -> None:
    """What PostgreSQL refuses in a transaction stands alone; what changes the session is known as that."""
    assert [piece.nature for piece in cut(sql)] == [nature]


@pytest.mark.parametrize(
    ("sql", "work", "repeatable"),
    [
        ("create index concurrently i on s.t (x)", IndexWork(Work.CREATE, "s", "i"), False),
        ("create index concurrently if not exists i on t (x)", IndexWork(Work.CREATE, None, "i"), True),
        ("create index concurrently on t (x)", IndexWork(Work.CREATE, None, None), False),
        ("drop index concurrently s.i", IndexWork(Work.DROP, "s", "i"), False),
        ("drop index concurrently if exists i", IndexWork(Work.DROP, None, "i"), True),
        ("reindex index concurrently s.i", IndexWork(Work.REINDEX, "s", "i"), True),
        ("reindex (concurrently, verbose) table t", IndexWork(Work.REINDEX_TABLE, None, "t"), True),
    ],
)
def test_work_on_indexes(sql: str, work: IndexWork, *, repeatable: bool) -> None:
    """What CONCURRENTLY may leave is known by name, and whether the statement may simply run again."""
    (piece,) = cut(sql)
    assert (piece.index, piece.repeatable, piece.nature) == (work, repeatable, Nature.LONE)


def test_offsets_are_characters() -> None:
    """Comments, strings and letters of more than one byte do not shift them."""
    sql = "-- é;\nselect 'ü;ö'; /* ; */\ncreate table ä (id int);\n\nselect $$;$$"
    pieces = cut(sql)
    assert len(pieces) == 3
    assert all(sql[piece.offset :].startswith(piece.text) for piece in pieces)


def test_what_the_grammar_refuses() -> None:
    """The position is that of the mistake, in characters."""
    with pytest.raises(NotCut, match="selec") as caught:
        cut("create table öne (id int);\nselec 1;")
    assert caught.value.position == 27
