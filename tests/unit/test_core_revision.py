from __future__ import annotations

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
def test_what_is_written_can_be_read(revision: Revision) -> None:
    """Text and value are two forms of one thing, blanks around the text do not count."""
    assert Revision.parse(str(revision)) == revision
    assert Revision.parse(f" {revision}\n") == revision


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """There is no third outcome, and what was read is stable."""
    try:
        revision = Revision.parse(text)
    except RevisionError as error:
        assert "NAME+COUNT.DIGEST" in str(error)  # noqa: PT017 - it may as well be read
    else:
        assert Revision.parse(str(revision)) == revision


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "a\0b", "a\nb", "a" * 513),
        *("x+", "x+1", "x+1.abc", "+1.0123456789ab", "x+1.0123456789ab+"),
        *("x+0.0123456789ab", "x+01.0123456789ab", "x+-1.0123456789ab", "x+\u0663.0123456789ab"),
        *("x+1.0123456789AB", "x+1.0123456789abc"),
    ],
)
def test_what_is_refused(text: str) -> None:
    """Every malformed form is refused with a message that shows it, cut short."""
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
    """A version with a dot in it stays whole."""
    assert canonical(name) == expected


@given(st.text(max_size=30))
def test_canonical_names_are_canonical(name: str) -> None:
    """Cutting twice is cutting once."""
    assert canonical(canonical(name)) == canonical(name)


def test_the_digest_is_what_a_shell_computes() -> None:
    r"""As `printf '%s\n' a b | sha256sum` has it: every name ends in a newline."""
    revision = declare(["a.sql", "b.ts"])
    assert str(revision) == "b+2.911169ddaaf1"


@given(st.lists(names, min_size=1, unique=True))
def test_every_prefix_has_its_own_digest(ordered: list[str]) -> None:
    """What `digests` yields at a place is what `declare` says of the names up to it."""
    assert [declare(ordered[: count + 1]).digest for count in range(len(ordered))] == list(digests(ordered))


def test_nothing_declares_nothing() -> None:
    """An empty directory has no revision."""
    with pytest.raises(RevisionError, match="there is no migration"):
        declare([])
