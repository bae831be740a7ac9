"""Python: Alembic, Django, Yoyo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrations.core.ledger import History, Record, State
from migrations.core.revision import canonical
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect, LockTable
from migrations.files import external
from migrations.files.alembic_scripts import list_alembic
from migrations.files.django_apps import list_django

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
    directory=list_alembic,
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
    branch=lambda name: name.partition(".")[0],
    directory=list_django,
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
    # `read_migrations` of yoyo: a file whose name begins with `post-apply` runs after each apply, and is not recorded
    directory=external.files_matching(
        r"(?!_tmp_yoyonew|post-apply)(?P<name>.+?)(?<!\.rollback(?=\.sql))\.(?:py|sql)",
        example="0001.add-users.py",
        hidden=True,
        unique=Versioning.NAME,
        accepts=Path.is_file,
    ),
    programs=("yoyo", "yoyo-migrate"),
)

DIALECTS = (ALEMBIC, DJANGO, YOYO)
