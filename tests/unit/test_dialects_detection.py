from __future__ import annotations

import pytest

from migrations.dialects.catalogue import CONCRETE_DIALECTS, find_dialect
from migrations.dialects.detection import Location, Relation, locate, tables_to_look_up
from migrations.dialects.dialect import Dialect, LedgerTable, LedgerUnreadable

KNEX = frozenset({"id", "name", "batch", "migration_time"})


def relation(name: str, columns: frozenset[str], schema: str = "public", requested: str | None = None) -> Relation:
    return Relation(requested, schema, name, columns, has_system_columns=True)


def found(dialect: str, *relations: Relation, schema: str | None = None, table: str | None = None) -> Location:
    return locate(find_dialect(dialect), schema, table, relations, database="app", current_schema="mine")


@pytest.mark.parametrize("dialect", CONCRETE_DIALECTS, ids=lambda dialect: dialect.name)
def test_each_dialect_is_distinguished_from_all_others(dialect: Dialect) -> None:
    """With its columns and companion tables, it is found by its name and by `auto`, and no other dialect is."""
    schema = dialect.schema or "public"
    there = [relation(dialect.table, dialect.columns, schema, dialect.schema)]
    there += [relation(name, frozenset(), schema, dialect.schema) for name in dialect.companion_tables]
    expected = LedgerTable("app", schema, dialect.table)
    for name in (dialect.name, "auto"):
        assert found(name, *there) == Location(dialect, expected, exists=True, has_system_columns=True)
    looked_up = tables_to_look_up(find_dialect("auto"), None, None)
    assert all((one.requested_schema, one.name) in looked_up for one in there)


def test_a_missing_ledger_is_where_the_tool_would_create_it() -> None:
    """It is expected in the schema that the user names, else in the tool's default, else in the current one."""
    assert found("knex").table == LedgerTable("app", "mine", "knex_migrations")
    assert found("knex", schema="s", table="t").table == LedgerTable("app", "s", "t")
    assert found("ledgergate").table == LedgerTable("app", "public", "ledgergate_migrations")
    assert not found("auto").exists


def test_a_table_with_another_name_is_recognized_by_its_columns() -> None:
    """The dialect that requires most columns is chosen: any table with a column `name` could be Umzug's."""
    assert found("auto", relation("moves", KNEX), table="moves").dialect is find_dialect("knex")
    assert found("auto", relation("moves", frozenset({"name"})), table="moves").dialect is find_dialect("umzug")
    assert not found("auto", relation("moves", frozenset({"x"})), table="moves").exists


def test_additional_columns_are_allowed() -> None:
    """Users add columns to their ledgers, and so do later versions of a tool."""
    assert found("knex", relation("knex_migrations", KNEX | {"comment"})).exists


def test_ledgers_of_several_dialects_are_refused() -> None:
    """The message names the tables, and what the user has to name."""
    two = relation("knex_migrations", KNEX), relation("SequelizeMeta", frozenset({"name"}), "app")
    with pytest.raises(
        LedgerUnreadable, match=r"public\.knex_migrations \(knex\) and app\.SequelizeMeta \(umzug\); name"
    ):
        found("auto", *two)
    assert found("umzug", *two).table.schema == "app"


def test_a_table_of_another_tool_is_refused_with_a_hint() -> None:
    """The message names the column that differs, and the tool whose table it looks like."""
    other = relation("schema_migrations", frozenset({"version", "dirty"}))
    with pytest.raises(
        LedgerUnreadable, match=r"no dbmate ledger: it has the column dirty.* like that of golang-migrate"
    ):
        found("dbmate", other)
