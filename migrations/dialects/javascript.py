"""JavaScript and TypeScript: Knex, node-pg-migrate, Umzug (Sequelize), TypeORM, Drizzle, Prisma."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from migrations.core.ledger import Record, State
from migrations.core.revision import canonical
from migrations.core.versioning import Versioning
from migrations.dialects.dialect import Dialect, LockTable
from migrations.files import external
from migrations.files.drizzle_journal import list_drizzle
from migrations.files.typeorm_classes import list_typeorm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from migrations.files.external import DirectoryLister


def _parse_knex(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["name"]), State.APPLIED, batch=row["batch"], finished_at=row["migration_time"])


# https://knexjs.org/guide/migrations.html, `loadExtensions`
_KNEX_EXTENSIONS = ("co", "coffee", "eg", "iced", "js", "cjs", "litcoffee", "ls", "ts")
_MODULE_EXTENSIONS = ("mjs", "mts", "cts")


def _knex_directory(extensions: Sequence[str]) -> DirectoryLister:
    alternatives = "|".join(re.escape(extension) for extension in extensions)
    # Knex stops at TypeScript's declarations; projects that have them let it load fewer extensions.
    pattern = rf"(?!.*\.d\.[cm]?ts\Z)(?P<name>.+)\.(?:{alternatives})"
    return external.files_matching(pattern, example="20250126120000_add_users.js", hidden=True)


def _list_knex(directory: Path) -> tuple[str, ...]:
    """List what Knex loads by default; in a directory without such files, what its guide to modules configures."""
    try:
        return _knex_directory(_KNEX_EXTENSIONS)(directory)
    except external.ExternalFilesError:
        with suppress(external.ExternalFilesError):
            return _knex_directory(_MODULE_EXTENSIONS)(directory)
        raise


KNEX = Dialect(
    name="knex",
    table="knex_migrations",
    columns=frozenset({"id", "name", "batch", "migration_time"}),
    parse=_parse_knex,
    row_lock=LockTable("{table}_lock", unlock_command="npx knex migrate:unlock"),
    directory=_list_knex,
    by_extensions=_knex_directory,
    optional_extensions=_MODULE_EXTENSIONS,
    programs=("knex",),
)


def _parse_node_pg_migrate(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["name"]), State.APPLIED, finished_at=row["run_on"])


NODE_PG_MIGRATE = Dialect(
    name="node-pg-migrate",
    table="pgmigrations",
    columns=frozenset({"id", "name", "run_on"}),
    parse=_parse_node_pg_migrate,
    lock_keys=lambda _table: (7241865325823964,),  # `PG_MIGRATE_LOCK_ID`, one for all ledgers of a database
    # `getMigrationFilePaths` and `getNumericPrefix` of version 9: all files, whose names have to begin with a number
    directory=external.files_matching(
        r"(?!.*\.d\.[cm]?ts\Z)(?P<name>[0-9].*)\.(?:sql|js|cjs|mjs|ts|cts|mts)", example="1700000000000_add-users.js"
    ),
    programs=("node-pg-migrate",),
)


def _parse_name(row: Mapping[str, Any]) -> Record:
    return Record(canonical(row["name"]), State.APPLIED)


UMZUG = Dialect(
    name="umzug",
    aliases=("sequelize",),  # whose command line runs migrations with Umzug
    table="SequelizeMeta",
    columns=frozenset({"name"}),
    parse=_parse_name,
    # A program that uses Umzug sets the pattern, mostly `*.js`, or `*.up.sql` beside files that undo them;
    # sequelize-cli's is /^(?!.*\.d\.ts$).*\.(cjs|js|cts|ts)$/.
    directory=external.files_matching(
        r"(?!.*\.d\.[cm]?ts\Z)(?P<name>.+(?<!\.down))\.(?:sql|js|cjs|mjs|ts|cts|mts)",
        example="20250126120000-add-users.js",
    ),
    programs=("sequelize", "sequelize-cli"),
)
TYPEORM = Dialect(
    name="typeorm",
    table="migrations",
    columns=frozenset({"id", "timestamp", "name"}),
    parse=_parse_name,
    versioning=Versioning.TIMESTAMP,
    directory=list_typeorm,
    programs=("typeorm", "typeorm-ts-node-commonjs", "typeorm-ts-node-esm"),
)


def _parse_drizzle(row: Mapping[str, Any]) -> Record:
    return Record(str(row["created_at"]), State.APPLIED, checksum=row["hash"])


DRIZZLE = Dialect(
    name="drizzle",
    schema="drizzle",
    table="__drizzle_migrations",
    columns=frozenset({"hash", "created_at"}),
    parse=_parse_drizzle,
    versioning=Versioning.LEADING_NUMBER,
    directory=list_drizzle,
    programs=("drizzle-kit",),
)


def _parse_prisma(row: Mapping[str, Any]) -> Record:
    return Record(
        canonical(row["migration_name"]),
        State(row["state"]),
        checksum=row["checksum"],
        error=row["logs"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


PRISMA = Dialect(
    name="prisma",
    table="_prisma_migrations",
    columns=frozenset({"migration_name", "checksum", "started_at", "finished_at", "rolled_back_at", "logs"}),
    parse=_parse_prisma,
    lock_keys=lambda _table: (72707369,),  # of Prisma's schema engine, one for all ledgers of a database
    directory=external.directories_containing("migration.sql", example="20250126120000_add_users"),
    programs=("prisma",),
)

DIALECTS = (KNEX, NODE_PG_MIGRATE, UMZUG, TYPEORM, DRIZZLE, PRISMA)
