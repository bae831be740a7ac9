from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.dialects.catalogue import CONCRETE_DIALECTS, find_dialect
from migrations.dialects.dialect import Dialect, LedgerTable
from migrations.dialects.jvm import _java_hash

LOCKING = [dialect for dialect in CONCRETE_DIALECTS if dialect.lock_keys(LedgerTable("d", "s", "t"))]


@pytest.mark.parametrize(
    ("name", "table", "keys"),
    [
        ("flyway", LedgerTable("jvm", "public", "flyway_schema_history"), (77431708279161 + 2125624436,)),
        ("golang-migrate", LedgerTable("gl", "public", "schema_migrations"), (55946073, 348637673)),
        ("atlas", LedgerTable("at", "atlas_schema_revisions", "atlas_schema_revisions"), (2686470616,)),
    ],
)
def test_a_key_is_the_one_that_the_tool_takes(name: str, table: LedgerTable, keys: tuple[int, ...]) -> None:
    """Read from `pg_locks` while Flyway 13.12, golang-migrate 4.20 and Atlas ran, except golang-migrate's second."""
    assert find_dialect(name).lock_keys(table) == keys


@pytest.mark.parametrize("dialect", LOCKING, ids=lambda dialect: dialect.name)
@given(database=st.text(), schema=st.text(min_size=1), table=st.text(min_size=1))
def test_a_key_fits_the_function_that_takes_it(dialect: Dialect, database: str, schema: str, table: str) -> None:
    """`pg_try_advisory_lock` takes a signed bigint."""
    try:
        keys = dialect.lock_keys(LedgerTable(database, schema, table))
    except ValueError:  # of a name that no table can have
        return
    assert all(-(2**63) <= key < 2**63 for key in keys)


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 0), ("a", 97), ("flyway_schema_history", 1610714361), ("public", -977423767), ("𝄞", 1772394)],
)
def test_a_hash_is_the_one_of_java(text: str, value: int) -> None:
    """`String.hashCode` is computed over UTF-16 code units, and overflows."""
    assert _java_hash(text) == value
