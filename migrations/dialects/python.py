"""Python: Alembic, Django, Yoyo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrations.core.ledger import History, Record, State
from migrations.core.revision import canonical
from migrations.dialects.dialect import Dialect, LockTable
from migrations.files import external

if TYPE_CHECKING:
    from collections.abc import Mapping


def _parse_alembic(row: Mapping[str, Any]) -> Record:
    return Record(row["version_num"], State.APPLIED)


ALEMBIC = Dialect(
    name="alembic",
    table="alembic_version",
    columns=frozenset({"version_num"}),
    parse=_parse_alembic,
    history=History.HEADS,
    directory=external.alembic,
    programs=("alembic",),
)


def _parse_django(row: Mapping[str, Any]) -> Record:
    return Record(f"{row['app']}.{row['name']}", State.APPLIED, finished_at=row["applied"])


DJANGO = Dialect(
    name="django",
    table="django_migrations",
    columns=frozenset({"id", "app", "name", "applied"}),
    parse=_parse_django,
    history=History.EXECUTION,
    directory=external.django,
    programs=("manage.py", "django-admin"),
)


def _parse_yoyo(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["migration_id"]), State.APPLIED, finished_at=row["applied_at"])


YOYO = Dialect(
    name="yoyo",
    table="_yoyo_migration",
    columns=frozenset({"migration_hash", "migration_id", "applied_at_utc"}),
    parse=_parse_yoyo,
    history=History.EXECUTION,
    row_lock=LockTable("yoyo_lock", unlock_command="yoyo break-lock"),
    directory=external.files_matching(r"(?P<name>(?!__).+(?<!\.rollback))\.(?:py|sql)", example="0001.add-users.py"),
    programs=("yoyo", "yoyo-migrate"),
)

DIALECTS = (ALEMBIC, DJANGO, YOYO)
