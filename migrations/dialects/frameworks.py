"""The tools of Ruby, Elixir and Rust that belong to a library for databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from migrations.core.ledger import Record, State
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect, LedgerTable

if TYPE_CHECKING:
    from collections.abc import Mapping

_RAILS_SALT = 2053462845
_SQLX_SALT = 0x3D32AD9E


def _rails(row: Mapping[str, Any]) -> Record:
    return Record(row["version"], State.APPLIED)


def _salted(salt: int, place: LedgerTable) -> tuple[int, ...]:
    return (salt * crc32(place.database.encode()),)


RAILS = Dialect(
    name="rails",
    table="schema_migrations",
    columns=frozenset({"version"}),
    without=frozenset({"dirty", "inserted_at"}),
    beside=frozenset({"ar_internal_metadata"}),
    record=_rails,
    versioning=Versioning.VERSION,
    keys=lambda place: _salted(_RAILS_SALT, place),  # ActiveRecord::Migrator::MIGRATOR_SALT
)


def _ecto(row: Mapping[str, Any]) -> Record:
    return Record(str(row["version"]), State.APPLIED, finished_at=row["applied_at"])


ECTO = Dialect(
    name="ecto",
    table="schema_migrations",
    columns=frozenset({"version", "inserted_at"}),
    record=_ecto,
    versioning=Versioning.VERSION,
)


def _sqlx(row: Mapping[str, Any]) -> Record:
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
    record=_sqlx,
    versioning=Versioning.VERSION,
    keys=lambda place: _salted(_SQLX_SALT, place),  # its command line takes none, its library does
)

DIALECTS = (RAILS, ECTO, SQLX)
