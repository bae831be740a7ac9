"""The group `ledgergate migrate`; each command has a module of its own."""

import click

from migrations.cli.conventions import LazyCommands

_COMMANDS = LazyCommands(
    {
        "up": "migrations.cli.up:up",
        "down": "migrations.cli.down:down",
        "status": "migrations.cli.status:status",
        "verify": "migrations.cli.verify:verify",
        "wait": "migrations.cli.wait:wait",
        "exec": "migrations.cli.exec:execute",
        "baseline": "migrations.cli.baseline:baseline",
        "resolve": "migrations.cli.resolve:resolve",
        "new": "migrations.cli.new:new",
        "revision": "migrations.cli.revision:revision",
        "lint": "migrations.cli.lint:lint",
    }
)


class _Commands(click.Group):
    """A group whose help has the first sentence of each command; click cuts it at the line's end."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of the commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(limit=1000)) for name, command in sorted(self.commands.items())]
            )


@click.group(
    cls=_Commands,
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
