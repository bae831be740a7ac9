from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.sql import statements
from migrations.sql.statements import IdentifierError, bind, load, quoted

FILES = sorted(path.stem for path in Path(statements.__file__).parent.glob("*.sql"))


@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_a_quoted_identifier_cannot_be_left(name: str) -> None:
    """Between the outer quotes every quote is doubled."""
    inner = quoted(name)[1:-1]
    assert inner.replace('""', "") == inner.replace('"', "")
    assert inner.replace('""', '"') == name


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_no_identifier_can_be_is_refused(name: str) -> None:
    """An empty name and a NUL byte."""
    with pytest.raises(IdentifierError):
        quoted("public", name)


def test_only_known_places_are_filled() -> None:
    """Braces of other text stay as they are, also in what is put in."""
    assert bind("select '{x}' from {table}", table='"{x}"') == """select '{x}' from "{x}\""""
    assert quoted(None, "t") == '"t"'


@pytest.mark.parametrize("file", FILES)
def test_every_statement_has_a_name(file: str) -> None:
    """A block is found by its name and does not run into the next."""
    statements = load(file)
    assert statements
    assert all(text and "-- name:" not in text for text in statements.values())
