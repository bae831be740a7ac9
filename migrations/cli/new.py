"""`new` and `revision`: what needs the directory and no database."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from migrations.cli.exit_codes import Exit
from migrations.cli.invocation import CommonOptions, report_unusable
from migrations.cli.options import command, flag, format_examples
from migrations.core.migration import FilesError
from migrations.core.revision import RevisionError, declare
from migrations.files.native import load_directory

if TYPE_CHECKING:
    from pathlib import Path

    from migrations.cli.report import CommandReporter

_SQL = "-- migrate:up\n\n\n-- migrate:down\n\n"
_PYTHON = '''"""Say what this migration is for."""

# Outside a transaction, such as for a backfill in batches: transaction = False


async def up(connection):
    """Run on an asyncpg connection, inside the transaction that also records it."""
    await connection.execute("select 1")


async def down(connection):
    """Undo it."""
    await connection.execute("select 1")
'''


@click.command(epilog='Example: `ledgergate migrate new "add users"` creates migrations/20250126120000_add_users.sql.')
@click.argument("name")
@flag("--python", "Create a Python migration.", is_flag=True)
@command
def new(options: CommonOptions, report: CommandReporter, *, name: str, python: bool) -> int:
    """Create an empty migration file, named by the time (UTC) and NAME."""
    return create(options.directory, report, name, python=python, now=datetime.now(UTC))


def create(directory: Path, report: CommandReporter, name: str, *, python: bool, now: datetime) -> int:
    """Create an empty migration file, named by the time in UTC; its path is all that goes to standard output."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not slug:
        return report_unusable(report, ValueError(f"expected a name with a letter of a to z or a digit, got {name!r}"))
    path = directory / f"{_stamp(directory, now)}_{slug}{'.py' if python else '.sql'}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(_PYTHON if python else _SQL)
    except OSError as error:
        return report_unusable(report, ValueError(f"{path} cannot be created: {error.strerror}"))
    if slug != name:
        click.echo(f"named {slug}: of {name!r} only a to z, 0 to 9 and '_' can be kept", err=True)
    click.echo(path)
    return Exit.DONE


def _stamp(directory: Path, now: datetime) -> int:
    """Give the time, or what comes after the newest file: a clock may be late, and a second has room for two files."""
    stamps = (int(path.name[:14]) for path in directory.glob("[0-9]*_*") if re.match(r"[0-9]{14}_", path.name))
    return max(int(f"{now.astimezone(UTC):%Y%m%d%H%M%S}"), *(stamp + 1 for stamp in stamps), 0)


@click.command(
    epilog=format_examples(
        'docker build --label dev.ledgergate.revision="$(ledgergate migrate revision)" .',
        "ledgergate migrate revision --dialect alembic --dir alembic/versions",
    )
)
@flag("--dialect", "Whose directory it is, such as knex; without it, ours.", metavar="NAME")
@flag("--ancestors", "Print what leads to it, for tools that record heads alone (Alembic).", is_flag=True)
@command
def revision(options: CommonOptions, report: CommandReporter, *, dialect: str | None, ancestors: bool) -> int:
    """Print what an image with this directory expects, as NAME+COUNT.DIGEST where the ledger can confirm it."""
    if dialect is not None or ancestors:
        from migrations.cli import foreign  # noqa: PLC0415 - few ask for another tool's

        return foreign.revision(options, report, dialect=dialect, ancestors=ancestors)
    return own_revision(options.directory, report)


def own_revision(directory: Path, report: CommandReporter) -> int:
    """Print what an image with this directory of ours expects."""
    try:
        click.echo(declare([migration.revision for migration in load_directory(directory)]))
    except (FilesError, RevisionError) as error:
        return report_unusable(report, error)
    return Exit.DONE
