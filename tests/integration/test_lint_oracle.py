"""Lint is right about every history of the corpus of `bench lint`."""

from __future__ import annotations

from bench.lint import claims, replay
from bench.lint_corpus import HISTORIES


def test_the_corpus_is_large_and_each_history_has_a_purpose() -> None:
    """The corpus has at least 150 histories, and none twice."""
    assert len({purpose for purpose, _ in HISTORIES}) == len({sql for _, sql in HISTORIES}) == len(HISTORIES) >= 150


async def test_lint_says_of_every_history_what_postgresql_does(database: str) -> None:
    """What it calls a rewrite is one, what it calls work under a lock is that, and it misses neither."""
    _, truth = await replay(database)
    said = {purpose: claims(sql) for purpose, sql in HISTORIES}
    assert {purpose: (said[purpose], truth[purpose]) for purpose in truth if said[purpose] != truth[purpose]} == {}
