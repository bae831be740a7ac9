"""The JVM: Flyway, Liquibase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrations.core.ledger import History, Record, State
from migrations.core.revision import canonical
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect, LedgerTable, LockTable
from migrations.files import external

if TYPE_CHECKING:
    from collections.abc import Mapping

_FLYWAY_SALT = 77431708279161
_JAVA_INT = 2**31


def _parse_flyway(row: Mapping[str, Any]) -> Record:
    return Record(
        revision=row["version"] or canonical(f"R__{row['description'].replace(' ', '_')}"),
        state=State(row["state"]),
        finished_at=row["installed_on"],
        duration_ms=row["execution_time"],
        applied_by=row["installed_by"],
        baseline=row["baseline"],
    )


def _flyway_name(name: str) -> str:
    """Return a file's name as `_parse_flyway` names its record."""
    return name.replace(" ", "_") if name.startswith("R") else name


def _flyway_keys(table: LedgerTable) -> tuple[int, ...]:
    """Return the key that Flyway's `PostgreSQLAdvisoryLockTemplate` makes from the table's quoted name."""
    return (_FLYWAY_SALT + _java_hash(table.relation),)


def _java_hash(text: str) -> int:
    """Compute Java's `String.hashCode`: over UTF-16 code units, as a signed 32-bit number."""
    units = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for start in range(0, len(units), 2):
        value = (31 * value + int.from_bytes(units[start : start + 2], "big")) % (2 * _JAVA_INT)
    return value - 2 * _JAVA_INT if value >= _JAVA_INT else value


FLYWAY = Dialect(
    name="flyway",
    table="flyway_schema_history",
    columns=frozenset({"installed_rank", "version", "description", "type", "script", "installed_on", "success"}),
    parse=_parse_flyway,
    versioning=Versioning.DOTTED,
    lock_keys=_flyway_keys,
    # https://documentation.red-gate.com/fd/migrations-184127470.html: V is a version, U undoes it, R is repeated
    directory=external.files_matching(
        r"(?P<name>V[0-9]+(?:[._][0-9]+)*(?:__.*)?|R__.*)\.(?:(?i:sql)|java|class)",
        example="V1__add_users.sql",
        nested=True,
        links=True,
        unique=Versioning.DOTTED,
        rename=_flyway_name,
    ),
    programs=("flyway",),
)


def _parse_liquibase(row: Mapping[str, Any]) -> Record:
    return Record(
        revision=canonical(f"{row['filename']}::{row['id']}::{row['author']}"),
        state=State.APPLIED,
        finished_at=row["executed_at"],
    )


LIQUIBASE = Dialect(
    name="liquibase",
    table="databasechangelog",
    columns=frozenset({"id", "author", "filename", "dateexecuted", "orderexecuted", "exectype", "md5sum"}),
    parse=_parse_liquibase,
    history=History.EXECUTION,
    row_lock=LockTable("{table}lock", "liquibase release-locks"),
    # A changelog is XML, YAML, JSON or SQL, and includes others.
    directory=external.unlistable(
        "the files of liquibase do not name its migrations; name the newest one with --expect or --revision"
    ),
    programs=("liquibase",),
)

DIALECTS = (FLYWAY, LIQUIBASE)
