"""Python: Alembic, Django, Yoyo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrations.core.ledger import History, Record, State
from migrations.core.revision import canonical
from migrations.dialects.dialect import Dialect, LockTable
from migrations.files import external

if TYPE_CHECKING:
    from collections.abc import Mapping


def _alembic(row: Mapping[str, Any]) -> Record:
    return Record(row["version_num"], State.APPLIED)


ALEMBIC = Dialect(
    name="alembic",
    table="alembic_version",
    columns=frozenset({"version_num"}),
    parse=_alembic,
    history=History.HEADS,
    directory=external.alembic,
    programs=("alembic",),
)


def _django(row: Mapping[str, Any]) -> Record:
    return Record(f"{row['app']}.{row['name']}", State.APPLIED, finished_at=row["applied"])


DJANGO = Dialect(
    name="django",
    table="django_migrations",
    columns=frozenset({"id", "app", "name", "applied"}),
    parse=_django,
    history=History.EXECUTION,
    directory=external.django,
    programs=("manage.py", "django-admin"),
)


def _yoyo(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["migration_id"]), State.APPLIED, finished_at=row["applied_at"])


YOYO = Dialect(
    name="yoyo",
    table="_yoyo_migration",
    columns=frozenset({"migration_hash", "migration_id", "applied_at_utc"}),
    parse=_yoyo,
    history=History.EXECUTION,
    row_lock=LockTable("yoyo_lock", unlock_command="yoyo break-lock"),
    directory=external.files_matching(r"(?P<name>(?!__).+(?<!\.rollback))\.(?:py|sql)", example="0001.add-users.py"),
    programs=("yoyo", "yoyo-migrate"),
)

DIALECTS = (ALEMBIC, DJANGO, YOYO)
