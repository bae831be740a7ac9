from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.core.revision import Revision, RevisionError, canonical, declare, digests

names = st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="+"), min_size=1, max_size=60).map(
    canonical
)
digest = st.text("0123456789abcdef", min_size=12, max_size=12)
revisions = st.builds(Revision, names) | st.builds(Revision, names, st.integers(1, 999_999_999), digest)


@given(revisions)
def test_a_formatted_revision_is_parsed_back(revision: Revision) -> None:
    """Surrounding whitespace is ignored."""
    assert Revision.parse(str(revision)) == revision
    assert Revision.parse(f" {revision}\n") == revision


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No other exception is raised, and a parsed revision can be formatted and parsed again."""
    try:
        revision = Revision.parse(text)
    except RevisionError as error:
        assert "NAME+COUNT.DIGEST" in str(error)  # noqa: PT017 - reading it may fail as well
    else:
        assert Revision.parse(str(revision)) == revision


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "a\0b", "a\nb", "a" * 2049),
        *("x+", "x+1", "x+1.abc", "+1.0123456789ab", "x+1.0123456789ab+"),
        *("x+0.0123456789ab", "x+01.0123456789ab", "x+-1.0123456789ab", "x+\u0663.0123456789ab"),
        *("x+1.0123456789AB", "x+1.0123456789abc"),
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    """The message shows the text, shortened."""
    with pytest.raises(RevisionError) as refused:
        Revision.parse(text)
    assert len(str(refused.value)) < 450


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", "x"),
        ("x.ts", "x"),
        ("x.js", "x"),
        ("x.sql", "x"),
        ("x.py", "x"),
        ("x.cjs", "x"),
        ("x.sql.ts", "x"),
        ("v1.2", "v1.2"),
        ("v1.2.sql", "v1.2"),
        (".sql", ".sql"),
        ("x.txt", "x.txt"),
        ("x.sqlite", "x.sqlite"),
        ("", ""),
    ],
)
def test_only_extensions_of_migration_files_are_cut_off(name: str, expected: str) -> None:
    """A name that contains a dot, such as a version, is not shortened."""
    assert canonical(name) == expected


@given(st.text(max_size=30))
def test_a_canonical_name_stays_as_it_is(name: str) -> None:
    """Making a name canonical twice is the same as once."""
    assert canonical(canonical(name)) == canonical(name)


def test_the_digest_is_what_a_shell_computes() -> None:
    r"""As `printf '%s\n' a b | sha256sum` has it: every name ends in a newline."""
    revision = declare(["a.sql", "b.ts"])
    assert str(revision) == "b+2.911169ddaaf1"


@given(st.lists(names, min_size=1, unique=True))
def test_every_prefix_has_its_own_digest(ordered: list[str]) -> None:
    """`digests` yields at each place the digest that `declare` returns for the names up to it."""
    assert [declare(ordered[: count + 1]).digest for count in range(len(ordered))] == list(digests(ordered))


def test_without_names_no_revision_is_declared() -> None:
    """An empty directory has no revision."""
    with pytest.raises(RevisionError, match="there is no migration"):
        declare([])


@pytest.mark.parametrize("name", [".sql" * 60_000, ".ts" * 80_000 + "x", "x" * 240_000, "." * 240_000])
def test_the_canonical_name_takes_linear_time(name: str) -> None:
    """A ledger's row may hold any text: quadratic time would be minutes."""
    began = time.process_time()
    canonical(name)
    assert time.process_time() - began < 10
