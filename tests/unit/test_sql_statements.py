from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.sql import statements
from migrations.sql.statements import IdentifierError, bind, load, quoted

FILES = sorted(path.stem for path in Path(statements.__file__).parent.glob("*.sql"))


@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_a_quoted_identifier_stays_one_identifier(name: str) -> None:
    """Between the outer quotes every quote is doubled."""
    inner = quoted(name)[1:-1]
    assert inner.replace('""', "") == inner.replace('"', "")
    assert inner.replace('""', '"') == name


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_text_that_cannot_be_an_identifier_is_refused(name: str) -> None:
    """PostgreSQL accepts neither an empty name nor a NUL."""
    with pytest.raises(IdentifierError):
        quoted("public", name)


def test_only_known_placeholders_are_replaced() -> None:
    """Other text in braces stays as it is, also in a value that was inserted."""
    assert bind("select '{x}' from {table}", table='"{x}"') == """select '{x}' from "{x}\""""
    assert quoted(None, "t") == '"t"'


@pytest.mark.parametrize("file", FILES)
def test_every_statement_has_a_name(file: str) -> None:
    """A block is found by its name and ends before the next one."""
    statements = load(file)
    assert statements
    assert all(text and "-- name:" not in text for text in statements.values())
