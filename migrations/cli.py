"""The commands `ledgergate migrate ...` and the flags of each; `commands` does the work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from migrations.commands import authoring, changes, views
from migrations.flags import command, examples, flag

if TYPE_CHECKING:
    from migrations.invocation import Options
    from migrations.report import Report


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a migration failed, 2 bad usage or files, 3 not at the expected revision, "
    "4 the database or the lock could not be reached in time.",
)
def migrate() -> None:
    """Apply and inspect migrations, exactly once, under one lock.

    A migration is <14 digits>_<name>.sql with `-- migrate:up` and `-- migrate:down` sections, or a .py file with
    `async def up(connection)` on an asyncpg connection.
    """


@migrate.command(
    epilog=examples(
        "ledgergate migrate up",
        "ledgergate migrate up --dir db/migrations --to 20250126120000_add_users",
        "ledgergate migrate up --dry-run",
    )
)
@flag("--to", "Last revision to apply; without it, all.", metavar="REV")
@flag("--dry-run", "Say what would be applied, and write nothing.", is_flag=True)
@command
def up(options: Options, report: Report, **flags: Any) -> int:
    """Apply what is pending, in order, under the lock.

    May be started any number of times at once: each migration runs once, and all exit 0. An image that is older than
    the ledger has nothing to do.
    """
    return changes.up(options, report, **flags)


@migrate.command(
    epilog="Examples: `ledgergate migrate status`; `ledgergate migrate status --check && start-the-application`."
)
@flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@flag("--check", "Exit 3 unless the ledger holds every migration of the directory.", is_flag=True)
@command
def status(options: Options, report: Report, **flags: Any) -> int:
    """Show what is applied, pending, missing, changed or dirty, and who holds the lock. Writes nothing."""
    return views.status(options, report, **flags)


@migrate.command(
    epilog='Example: `ledgergate migrate new "add users"` creates migrations/20250126120000_add_users.sql.'
)
@click.argument("name")
@flag("--python", "Create a Python migration.", is_flag=True)
@command
def new(options: Options, report: Report, **flags: Any) -> int:
    """Create an empty migration file, named by the time (UTC) and NAME."""
    return authoring.new(options.directory, report, now=datetime.now(UTC), **flags)


@migrate.command(epilog=examples('docker build --label dev.ledgergate.revision="$(ledgergate migrate revision)" .'))
@command
def revision(options: Options, report: Report) -> int:
    """Print what an image with this directory expects, as NAME+COUNT.DIGEST."""
    return authoring.revision(options.directory, report)
