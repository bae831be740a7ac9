"""The tools that are written in Go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from migrations.core.ledger import History, Record, State
from migrations.core.revision import canonical
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect, LedgerTable

if TYPE_CHECKING:
    from collections.abc import Mapping

_GOLANG_MIGRATE_SALT = 1486364155


def _number(row: Mapping[str, Any]) -> Record:
    return Record(str(row["version"]), State(row["state"]))


def _golang_migrate_keys(place: LedgerTable) -> tuple[int, ...]:
    """Give the keys that golang-migrate's `GenerateAdvisoryLockId` makes.

    Who opens a URL, as its command line does, has the path of it for the database's name; who brings a connection
    (`WithInstance`) has the name itself.
    """
    subjects = (f"{place.schema}\0{place.table}\0{database}" for database in (f"/{place.database}", place.database))
    return tuple(crc32(subject.encode()) * _GOLANG_MIGRATE_SALT % 2**32 for subject in subjects)


GOLANG_MIGRATE = Dialect(
    name="golang-migrate",
    table="schema_migrations",
    columns=frozenset({"version", "dirty"}),
    record=_number,
    history=History.NUMBER,
    versioning=Versioning.VERSION,
    keys=_golang_migrate_keys,
)


def _goose(row: Mapping[str, Any]) -> Record:
    return Record(str(row["version_id"]), State.APPLIED, finished_at=row["applied_at"])


GOOSE = Dialect(
    name="goose",
    table="goose_db_version",
    columns=frozenset({"id", "version_id", "is_applied", "tstamp"}),
    record=_goose,
    versioning=Versioning.VERSION,
    keys=lambda _place: (4097083626,),  # goose's lock.DefaultLockID, for those who ask for a lock
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
    versioning=Versioning.VERSION,
)


def _atlas(row: Mapping[str, Any]) -> Record:
    return Record(
        revision=canonical(row["version"]),
        state=State(row["state"]),
        error=row["error"],
        started_at=row["executed_at"],
        duration_ms=row["execution_time"] // 1_000_000,
        baseline=row["baseline"],
    )


ATLAS = Dialect(
    name="atlas",
    schema="atlas_schema_revisions",
    table="atlas_schema_revisions",
    columns=frozenset({"version", "type", "applied", "total", "executed_at", "error", "hash", "operator_version"}),
    record=_atlas,
    versioning=Versioning.PREFIX,
    keys=lambda _place: (0xA02049D8,),  # FNV-1 over `atlas_migrate_execute`
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
