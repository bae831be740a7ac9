"""Tools written in Go: golang-migrate, goose, dbmate, Atlas, pgroll."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from migrations.core.ledger import History, Record, State
from migrations.core.revision import canonical
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect, LedgerTable
from migrations.files import external
from migrations.files.atlas_directory import list_atlas

if TYPE_CHECKING:
    from collections.abc import Mapping

_GOLANG_MIGRATE_SALT = 1486364155


def _parse_golang_migrate(row: Mapping[str, Any]) -> Record:
    return Record(str(row["version"]), State(row["state"]))


def _golang_migrate_keys(table: LedgerTable) -> tuple[int, ...]:
    """Return the two keys that golang-migrate's `GenerateAdvisoryLockId` may make.

    It hashes the database's name. Where golang-migrate opened the connection itself, as its command line does, that is
    the path of the URL, with its slash; where a program passed a connection (`WithInstance`), it is the plain name.
    """
    subjects = (f"{table.schema}\0{table.name}\0{database}" for database in (f"/{table.database}", table.database))
    return tuple(crc32(subject.encode()) * _GOLANG_MIGRATE_SALT % 2**32 for subject in subjects)


GOLANG_MIGRATE = Dialect(
    name="golang-migrate",
    table="schema_migrations",
    columns=frozenset({"version", "dirty"}),
    parse=_parse_golang_migrate,
    history=History.NUMBER,
    versioning=Versioning.LEADING_NUMBER,
    lock_keys=_golang_migrate_keys,
    # `source.Regex` of golang-migrate. A number with a down file only is a migration, too: applying it runs nothing.
    directory=external.files_matching(
        r"(?P<name>[0-9]+_.*)\.(?P<part>up|down)\..*",
        example="000001_add_users.up.sql",
        unique=Versioning.LEADING_NUMBER,
    ),
    programs=("migrate",),
)


def _parse_goose(row: Mapping[str, Any]) -> Record:
    return Record(str(row["version_id"]), State.APPLIED, finished_at=row["applied_at"])


GOOSE = Dialect(
    name="goose",
    table="goose_db_version",
    columns=frozenset({"id", "version_id", "is_applied", "tstamp"}),
    parse=_parse_goose,
    versioning=Versioning.LEADING_NUMBER,
    lock_keys=lambda _table: (4097083626,),  # goose's lock.DefaultLockID; goose locks only on request
    # `collectFilesystemSources` and `NumericComponent` of goose: a number above zero, an underscore, anything
    directory=external.files_matching(
        r"(?P<name>0*[1-9][0-9]*_.*)(?<!_test(?=\.go))\.(?:sql|go)",
        example="00001_add_users.sql",
        unique=Versioning.LEADING_NUMBER,
    ),
    programs=("goose",),
)


def _parse_dbmate(row: Mapping[str, Any]) -> Record:
    return Record(row["version"], State.APPLIED)


DBMATE = Dialect(
    name="dbmate",
    table="schema_migrations",
    columns=frozenset({"version"}),
    absent_columns=frozenset({"dirty", "inserted_at"}),
    absent_tables=frozenset({"ar_internal_metadata"}),
    parse=_parse_dbmate,
    versioning=Versioning.LEADING_NUMBER,
    directory=external.files_matching(r"(?P<name>[0-9].*)\.sql", example="20250126120000_add_users.sql"),
    programs=("dbmate",),
)


def _parse_atlas(row: Mapping[str, Any]) -> Record:
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
    parse=_parse_atlas,
    versioning=Versioning.PREFIX,
    lock_keys=lambda _table: (0xA02049D8,),  # FNV-1 over `atlas_migrate_execute`
    directory=list_atlas,
    programs=("atlas",),
)


def _parse_pgroll(row: Mapping[str, Any]) -> Record:
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
    parse=_parse_pgroll,
    history=History.EXECUTION,
    # `CollectFilesFromDir` of pgroll
    directory=external.files_matching(
        r"(?P<name>.+)\.(?:json|ya?ml)", example="01_add_users.yaml", hidden=True, unique=Versioning.NAME
    ),
    programs=("pgroll",),
)

DIALECTS = (GOLANG_MIGRATE, GOOSE, DBMATE, ATLAS, PGROLL)
