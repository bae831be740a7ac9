"""The commands `ledgergate migrate ...`; each module of `commands` declares some and does their work."""

import click

from migrations.menu import Menu

_COMMANDS = Menu(
    {
        "up": "migrations.commands.changes:up",
        "down": "migrations.commands.changes:down",
        "status": "migrations.commands.views:status",
        "verify": "migrations.commands.views:verify",
        "wait": "migrations.commands.waiting:wait",
        "exec": "migrations.commands.executing:execute",
        "baseline": "migrations.commands.bookkeeping:baseline",
        "resolve": "migrations.commands.bookkeeping:resolve",
        "new": "migrations.commands.authoring:new",
        "revision": "migrations.commands.authoring:revision",
        "lint": "migrations.commands.linting:lint",
    }
)


@click.group(
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a migration failed, 2 bad usage or files, 3 not at the expected revision, "
    "4 the database or the lock could not be reached in time.",
)
def migrate() -> None:
    """Apply and inspect migrations, exactly once, under one lock.

    A migration is <14 digits>_<name>.sql with `-- migrate:up` and `-- migrate:down` sections, or a .py file with
    `async def up(connection)` on an asyncpg connection.
    """
