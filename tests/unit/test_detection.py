from __future__ import annotations

import pytest

from migrations.dialects.catalogue import described, find_dialect
from migrations.dialects.detection import Location, Relation, locate, wanted
from migrations.dialects.dialect import Dialect, LedgerTable, LedgerUnreadable

KNEX = frozenset({"id", "name", "batch", "migration_time"})


def relation(name: str, columns: frozenset[str], schema: str = "public", asked: str | None = None) -> Relation:
    return Relation(asked, schema, name, columns, has_system_columns=True)


def found(dialect: str, *relations: Relation, schema: str | None = None, table: str | None = None) -> Location:
    return locate(find_dialect(dialect), schema, table, relations, database="app", current_schema="mine")


@pytest.mark.parametrize("dialect", described(), ids=lambda dialect: dialect.name)
def test_each_is_told_from_all_others(dialect: Dialect) -> None:
    """With its own columns and companions, each is found by its name and by `auto`, and nobody else is."""
    schema = dialect.schema or "public"
    there = [relation(dialect.table, dialect.columns, schema, dialect.schema)]
    there += [relation(name, frozenset(), schema, dialect.schema) for name in dialect.beside]
    place = LedgerTable("app", schema, dialect.table)
    for name in (dialect.name, "auto"):
        assert found(name, *there) == Location(dialect, place, exists=True, has_system_columns=True)
    asked = wanted(find_dialect("auto"), None, None)
    assert all((one.asked, one.name) in asked for one in there)


def test_what_is_missing_would_be_created_where_the_tool_does() -> None:
    """In the schema that is named, the tool's own, or the current one."""
    assert found("knex").place == LedgerTable("app", "mine", "knex_migrations")
    assert found("knex", schema="s", table="t").place == LedgerTable("app", "s", "t")
    assert found("ledgergate").place == LedgerTable("app", "public", "ledgergate_migrations")
    assert not found("auto").exists


def test_a_table_of_another_name_is_told_by_its_columns() -> None:
    """Of those that could be, the one that asks most of it: any table with a name could be Umzug's."""
    assert found("auto", relation("moves", KNEX), table="moves").dialect is find_dialect("knex")
    assert found("auto", relation("moves", frozenset({"name"})), table="moves").dialect is find_dialect("umzug")
    assert not found("auto", relation("moves", frozenset({"x"})), table="moves").exists


def test_columns_of_its_own_do_not_matter() -> None:
    """People add some to their ledgers, and later versions of a tool do."""
    assert found("knex", relation("knex_migrations", KNEX | {"comment"})).exists


def test_more_than_one_is_named() -> None:
    """Nothing is guessed; what is there is said, and what to do."""
    two = relation("knex_migrations", KNEX), relation("SequelizeMeta", frozenset({"name"}), "app")
    with pytest.raises(
        LedgerUnreadable, match=r"public\.knex_migrations \(knex\) and app\.SequelizeMeta \(umzug\); name"
    ):
        found("auto", *two)
    assert found("umzug", *two).place.schema == "app"


def test_a_namesake_is_refused_with_a_hint() -> None:
    """The message says what is missing, and whose the table looks like."""
    other = relation("schema_migrations", frozenset({"version", "dirty"}))
    with pytest.raises(
        LedgerUnreadable, match=r"no dbmate ledger: it has the column dirty.* like that of golang-migrate"
    ):
        found("dbmate", other)
