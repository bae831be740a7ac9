"""Migrations of database libraries: Rails (Ruby), Ecto (Elixir), sqlx (Rust)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from migrations.core.ledger import Record, State
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect, LedgerTable
from migrations.files import external

if TYPE_CHECKING:
    from collections.abc import Mapping

_RAILS_SALT = 2053462845
_SQLX_SALT = 0x3D32AD9E


def _parse_rails(row: Mapping[str, Any]) -> Record:
    return Record(row["version"], State.APPLIED)


def _salted_hash(salt: int, table: LedgerTable) -> tuple[int, ...]:
    """Return the one key that both ActiveRecord and sqlx make: one for all ledgers of a database."""
    return (salt * crc32(table.database.encode()),)


RAILS = Dialect(
    name="rails",
    table="schema_migrations",
    columns=frozenset({"version"}),
    absent_columns=frozenset({"dirty", "inserted_at"}),
    companion_tables=frozenset({"ar_internal_metadata"}),
    parse=_parse_rails,
    versioning=Versioning.LEADING_NUMBER,
    lock_keys=lambda table: _salted_hash(_RAILS_SALT, table),  # ActiveRecord::Migrator::MIGRATOR_SALT
    # `MigrationContext.migration_files` and `MigrationFilenameRegexp` of ActiveRecord
    directory=external.files_matching(
        r"(?P<name>[0-9]+_[_a-z0-9]*\.?[_a-z0-9]*)\.rb",
        example="20250126120000_add_users.rb",
        nested=True,
        refused=r"[0-9].*_.*\.rb",
        unique=Versioning.LEADING_NUMBER,
    ),
    programs=("rails", "rake"),
)


def _parse_ecto(row: Mapping[str, Any]) -> Record:
    return Record(str(row["version"]), State.APPLIED, finished_at=row["applied_at"])


ECTO = Dialect(
    name="ecto",
    table="schema_migrations",
    columns=frozenset({"version", "inserted_at"}),
    parse=_parse_ecto,
    versioning=Versioning.LEADING_NUMBER,
    # `Ecto.Migrator.migrations_for`: an integer, an underscore, anything, in any subdirectory
    directory=external.files_matching(
        r"(?P<name>[0-9]+_.*)\.exs",
        example="20250126120000_add_users.exs",
        nested=True,
        unique=Versioning.LEADING_NUMBER,
    ),
    programs=("ecto.migrate",),  # a task of `mix`
)


def _parse_sqlx(row: Mapping[str, Any]) -> Record:
    return Record(
        revision=str(row["version"]),
        state=State(row["state"]),
        finished_at=row["installed_on"],
        duration_ms=max(row["execution_time"], 0) // 1_000_000,
    )


SQLX = Dialect(
    name="sqlx",
    table="_sqlx_migrations",
    columns=frozenset({"version", "description", "installed_on", "success", "checksum", "execution_time"}),
    parse=_parse_sqlx,
    versioning=Versioning.LEADING_NUMBER,
    lock_keys=lambda table: _salted_hash(_SQLX_SALT, table),  # taken by its library, not by its command line
    # `resolve_blocking` of sqlx; a `.down.sql` undoes a migration, and is not one itself
    directory=external.files_matching(
        r"(?P<name>[0-9]+_.*?)(?<!\.down)(?:\.up)?\.sql",
        example="20250126120000_add_users.sql",
        hidden=True,
        refused=r"(?![0-9]+_)[^_]*_.*\.sql",
        unique=Versioning.LEADING_NUMBER,
    ),
    programs=("sqlx",),
)

DIALECTS = (RAILS, ECTO, SQLX)
