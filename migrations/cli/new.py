"""`ledgergate migrate new`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from migrations.cli.command import CommonOptions, report_unusable
from migrations.cli.conventions import Exit, flag, format_examples
from migrations.cli.options import common_options

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


@click.command(
    epilog=format_examples(
        'ledgergate migrate new "add users"  # creates migrations/20250126120000_add_users.sql',
        "ledgergate migrate new backfill_totals --python",
        '$EDITOR "$(ledgergate migrate new add_index)"',
    )
)
@click.argument("name")
@flag("--python", "Create a Python migration instead of an SQL one.", is_flag=True)
@common_options
def new(options: CommonOptions, reporter: CommandReporter, *, name: str, python: bool) -> int:
    """Create an empty migration file, named by the time (UTC) and NAME, and print its path.

    Needs no database. Exits 2 when the file cannot be created.
    """
    return create(options.directory, reporter, name, python=python, now=datetime.now(UTC))


def create(directory: Path, reporter: CommandReporter, name: str, *, python: bool, now: datetime) -> int:
    """Create an empty migration file, named by the time in UTC; only its path goes to standard output."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not slug:
        return report_unusable(
            reporter, ValueError(f"expected a name with a letter of a to z or a digit, got {name!r}")
        )
    path = directory / f"{_stamp(directory, now)}_{slug}{'.py' if python else '.sql'}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(_PYTHON if python else _SQL)
    except OSError as error:
        return report_unusable(reporter, ValueError(f"{path} cannot be created: {error.strerror}"))
    if slug != name:
        click.echo(f"named {slug}: of {name!r} only a to z, 0 to 9 and '_' can be kept", err=True)
    click.echo(path)
    return Exit.DONE


def _stamp(directory: Path, now: datetime) -> int:
    """Return the time as 14 digits, or one more than the newest file's.

    Otherwise a file that was made in the same second as another one, or by a clock that is late, would not be the last.
    """
    stamps = (int(path.name[:14]) for path in directory.glob("[0-9]*_*") if re.match(r"[0-9]{14}_", path.name))
    return max(int(f"{now.astimezone(UTC):%Y%m%d%H%M%S}"), *(stamp + 1 for stamp in stamps), 0)
