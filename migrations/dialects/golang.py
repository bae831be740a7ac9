"""The tools that are written in Go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from migrations.dialects.dialect import Dialect, Place
from migrations.ledger import History, Record, State
from migrations.naming import Naming
from migrations.revision import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

_GOLANG_MIGRATE_SALT = 1486364155


def _number(row: Mapping[str, Any]) -> Record:
    return Record(str(row["version"]), State(row["state"]))


def _golang_migrate_key(place: Place) -> int:
    """Give the key as golang-migrate's `GenerateAdvisoryLockId` makes it."""
    subject = f"{place.schema}\0{place.table}\0{place.database}"
    return crc32(subject.encode()) * _GOLANG_MIGRATE_SALT % 2**32


GOLANG_MIGRATE = Dialect(
    name="golang-migrate",
    table="schema_migrations",
    columns=frozenset({"version", "dirty"}),
    record=_number,
    history=History.NUMBER,
    naming=Naming.VERSION,
    key=_golang_migrate_key,
)


def _goose(row: Mapping[str, Any]) -> Record:
    return Record(str(row["version_id"]), State.APPLIED, finished_at=row["applied_at"])


GOOSE = Dialect(
    name="goose",
    table="goose_db_version",
    columns=frozenset({"id", "version_id", "is_applied", "tstamp"}),
    record=_goose,
    naming=Naming.VERSION,
    key=lambda _: 4097083626,  # goose's lock.DefaultLockID, for those who ask for a lock
)


def _dbmate(row: Mapping[str, Any]) -> Record:
    return Record(row["version"], State.APPLIED)


DBMATE = Dialect(
    name="dbmate",
    table="schema_migrations",
    columns=frozenset({"version"}),
    without=frozenset({"dirty", "inserted_at"}),
    apart=frozenset({"ar_internal_metadata"}),
    record=_dbmate,
    naming=Naming.VERSION,
)


def _atlas(row: Mapping[str, Any]) -> Record:
    return Record(
        revision=canonical(row["version"]),
        state=State(row["state"]),
        error=row["error"],
        started_at=row["executed_at"],
        duration_ms=row["execution_time"] // 1_000_000,
        applied_by=row["operator_version"],
    )


ATLAS = Dialect(
    name="atlas",
    schema="atlas_schema_revisions",
    table="atlas_schema_revisions",
    columns=frozenset({"version", "type", "applied", "total", "executed_at", "error", "hash", "operator_version"}),
    record=_atlas,
    naming=Naming.PREFIX,
    key=lambda _: 0xA02049D8,  # FNV-1 over `atlas_migrate_execute`
)


def _pgroll(row: Mapping[str, Any]) -> Record:
    return Record(
        revision=canonical(row["name"]),
        state=State(row["state"]),
        started_at=row["created_at"],
        finished_at=row["finished_at"],
    )


PGROLL = Dialect(
    name="pgroll",
    schema="pgroll",
    table="migrations",
    columns=frozenset({"schema", "name", "migration", "created_at", "parent", "done", "migration_type"}),
    record=_pgroll,
    history=History.EXECUTION,
)

DIALECTS = (GOLANG_MIGRATE, GOOSE, DBMATE, ATLAS, PGROLL)
