from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations import lock
from migrations.dialects import DIALECTS, NATIVE, Dialect, DialectError, find
from migrations.ledger import Record, State
from migrations.statements import IdentifierError, bind, load, quoted


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_each_dialect_reads_its_own_table(dialect: Dialect) -> None:
    """Its defaults are in the statement, quoted; nothing in it is left to fill in; it writes nothing."""
    assert quoted(dialect.schema, dialect.table) in dialect.select()
    assert '"s"."t"' in dialect.select("s", "t")
    assert "{" not in dialect.select()
    assert find(dialect.name) is dialect


def test_an_unknown_dialect_is_refused_with_the_known_ones() -> None:
    """The message is one that a user can act on."""
    with pytest.raises(DialectError, match=r"ledgergate.*'nosuch'"):
        find("nosuch")


def test_a_native_row_is_a_record() -> None:
    """Every column has its place; an extension in the name does not count."""
    row = dict.fromkeys(("checksum", "compatible_from", "error", "started_at", "finished_at", "applied_by")) | {
        "revision": "a.sql",
        "state": "failed",
        "batch": 3,
        "duration_ms": 5,
    }
    assert NATIVE.record(row) == Record("a", State.FAILED, batch=3, duration_ms=5)


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


@pytest.mark.parametrize("file", ["ledgergate", "lock", "session"])
def test_every_statement_has_a_name(file: str) -> None:
    """A block is found by its name and does not run into the next."""
    statements = load(file)
    assert statements
    assert all(text and "-- name:" not in text for text in statements.values())


def test_the_key_of_the_lock_is_stable() -> None:
    """Runners of different versions must mean the same lock: this number is forever; another table has another."""
    assert lock.key('"public"."ledgergate_migrations"') == -5394254515006578079
    assert lock.key('"public"."other"') != lock.key('"public"."ledgergate_migrations"')


@given(st.text())
def test_a_key_fits_the_function_that_takes_it(relation: str) -> None:
    """`pg_try_advisory_lock` takes a signed bigint."""
    assert -(2**63) <= lock.key(relation) < 2**63
