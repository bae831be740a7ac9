from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.core.ledger import Record, State
from migrations.dialects.catalogue import DIALECTS, described, find_dialect
from migrations.dialects.dialect import Dialect, DialectError, LedgerTable, LedgerUnreadable
from migrations.dialects.native import NATIVE
from migrations.postgres import advisory_lock
from migrations.sql.statements import IdentifierError, bind, load, quoted

PLACE = LedgerTable("app", "s", 't"')
WRITES = re.compile(
    r"\b(insert|delete|create|alter|drop|truncate|lock table|for update)\b|\bpg_(try_)?advisory", re.IGNORECASE
)


@pytest.mark.parametrize("dialect", described(), ids=lambda dialect: dialect.name)
def test_each_dialect_reads_the_table_that_is_named(dialect: Dialect) -> None:
    """Nothing in its statement is left to fill in, and it writes and locks nothing; it is found by its name."""
    statement = dialect.select(PLACE)
    assert '"s"."t"""' in statement
    assert "{" not in statement
    assert not WRITES.search(statement)
    assert find_dialect(dialect.name) is dialect
    assert dialect.candidates() == (dialect,)
    assert hash(dialect)
    assert ("pg_locks" not in statement) or dialect.keys(PLACE)


@pytest.mark.parametrize("dialect", [d for d in described() if d.row_lock], ids=lambda dialect: dialect.name)
def test_each_row_lock_has_its_table(dialect: Dialect) -> None:
    """It stands beside the ledger; reading it writes nothing."""
    table, read, clear = dialect.lock_table(PLACE), dialect.read_lock(PLACE), dialect.clear_lock(PLACE)
    assert table is not None
    assert table.startswith('"s".')
    assert read is not None
    assert table in read
    assert not WRITES.search(read)
    assert clear is not None
    assert table in clear
    assert "{" not in read + clear


def test_where_there_is_no_row_lock_nothing_is_asked() -> None:
    """Ours is an advisory lock."""
    assert (NATIVE.lock_table(PLACE), NATIVE.read_lock(PLACE), NATIVE.clear_lock(PLACE)) == (None, None, None)


def test_every_name_is_one_of_a_dialect() -> None:
    """The catalogue lists what can be found, and an alias finds the same; telling its names imports nothing."""
    assert {find_dialect(name).name for name in DIALECTS} == {dialect.name for dialect in described()} | {"auto"}
    assert all(name in DIALECTS for name in DIALECTS)
    assert len(DIALECTS) == len(list(DIALECTS))
    assert "nosuch" not in DIALECTS


def test_an_unknown_dialect_is_refused_with_the_known_ones() -> None:
    """The message is one that a user can act on."""
    with pytest.raises(DialectError, match=r"auto.*knex.*ledgergate.*'nosuch'"):
        find_dialect("nosuch")


NATIVE_ROW = dict.fromkeys(("checksum", "compatible_from", "error", "started_at", "finished_at", "applied_by")) | {
    "revision": "a.sql",
    "state": "failed",
    "batch": 3,
    "duration_ms": 5,
}


def test_a_native_row_is_a_record() -> None:
    """Every column has its place; an extension in the name does not count."""
    assert NATIVE.ledger([NATIVE_ROW]).records == (Record("a", State.FAILED, batch=3, duration_ms=5),)


@pytest.mark.parametrize("damage", [{"state": "odd"}, {"revision": None}])
def test_a_row_that_no_tool_wrote_is_refused(damage: dict[str, str | None]) -> None:
    """The message names the dialect."""
    with pytest.raises(LedgerUnreadable, match="no ledgergate ledger"):
        NATIVE.ledger([NATIVE_ROW | damage])


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


@pytest.mark.parametrize("file", ["advisory_lock", "session", "reading", *(dialect.name for dialect in described())])
def test_every_statement_has_a_name(file: str) -> None:
    """A block is found by its name and does not run into the next."""
    statements = load(file)
    assert statements
    assert all(text and "-- name:" not in text for text in statements.values())


def test_the_key_of_the_lock_is_stable() -> None:
    """Runners of different versions must mean the same lock: this number is forever; another table has another."""
    assert advisory_lock.lock_key('"public"."ledgergate_migrations"') == -5394254515006578079
    assert advisory_lock.lock_key('"public"."other"') != advisory_lock.lock_key('"public"."ledgergate_migrations"')


@given(st.text())
def test_a_key_fits_the_function_that_takes_it(relation: str) -> None:
    """`pg_try_advisory_lock` takes a signed bigint."""
    assert -(2**63) <= advisory_lock.lock_key(relation) < 2**63
