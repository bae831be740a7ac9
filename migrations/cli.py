"""The commands `ledgergate migrate ...` and their flags; `commands` does the work."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migrations import commands
from migrations.commands import Options
from migrations.report import reporting
from migrations.settings import DEFAULT_ENVIRONMENT, FILE, SettingsError, choose

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrations.report import Report

Command = TypeVar("Command", bound="Callable[..., Any]")

_SHARED = ("dir", "database-url", "schema", "table", "connect-timeout", "lock-timeout", "log-format")


def _flag(
    name: str, help_text: str, *declarations: str, twins: tuple[str, ...] = (), **rest: Any
) -> Callable[[Command], Command]:
    """Declare a flag with its environment twin, which `--help` shows."""
    twin = "LEDGERGATE_" + name.strip("-").upper().replace("-", "_")
    return click.option(name, *declarations, help=help_text, envvar=[twin, *twins], show_envvar=True, **rest)


def _use_environment(context: click.Context, _: click.Parameter, environment: str) -> None:
    """Let the settings file say what no flag and no variable does."""
    file = Path(FILE)
    if not file.is_file():
        return
    import tomllib  # noqa: PLC0415 - few have the file, and every pod waits for what is imported

    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        context.default_map = choose(document, environment, _SHARED)
    except (SettingsError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{FILE}: {error}") from error


_SECONDS = click.FloatRange(min=0)
_FLAGS = (
    _flag("--dir", "Directory of the migrations.", default="migrations", show_default="./migrations", metavar="PATH"),
    _flag(
        "--database-url",
        "postgresql://USER:PASSWORD@HOST:PORT/NAME. Without it: libpq's PG* variables, else DB_HOST DB_PORT DB_NAME "
        "DB_USER DB_PASSWORD. `ps` shows a flag, so put a password into the environment.",
        twins=("DATABASE_URL",),
        metavar="URL",
    ),
    _flag(
        "--env",
        f"Which [environments.NAME] of ./{FILE} to use, where there is such a file.",
        twins=("NODE_ENV",),
        default=DEFAULT_ENVIRONMENT,
        show_default=True,
        is_eager=True,
        expose_value=False,
        callback=_use_environment,
        metavar="NAME",
    ),
    _flag("--schema", "Schema of the ledger's table.", show_default="public", metavar="NAME"),
    _flag("--table", "Table of the ledger.", show_default="ledgergate_migrations", metavar="NAME"),
    _flag(
        "--connect-timeout",
        "How long to try to connect: a proxy beside us may start later than we do.",
        type=_SECONDS,
        default=30.0,
        show_default=True,
        metavar="SECONDS",
    ),
    _flag(
        "--lock-timeout",
        "How long to wait while somebody else migrates.",
        type=_SECONDS,
        default=600.0,
        show_default=True,
        metavar="SECONDS",
    ),
    _flag(
        "--log-format",
        "Lines for people or JSON objects. Without it: progress on a terminal, else text.",
        type=click.Choice(["text", "json"]),
    ),
)


def _command(body: Callable[..., int]) -> Callable[..., None]:
    """Add the shared flags to a command; it gets them as `Options`, beside a `Report` and its own flags."""

    @wraps(body)
    def call(**flags: Any) -> None:
        log_format = flags.pop("log_format")
        shared = {"directory": Path(flags.pop("dir"))} | {name: flags.pop(name) for name in _OPTIONS}
        with reporting(log_format) as report:
            code = body(Options(**shared), report, **flags)
        click.get_current_context().exit(code)

    for flag in reversed(_FLAGS):
        call = flag(call)
    return call


_OPTIONS = ("database_url", "schema", "table", "connect_timeout", "lock_timeout")


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


def _examples(*lines: str) -> str:
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


@migrate.command(
    epilog=_examples(
        "ledgergate migrate up",
        "ledgergate migrate up --dir db/migrations --to 20250126120000_add_users",
        "ledgergate migrate up --dry-run",
    )
)
@_flag("--to", "Last revision to apply; without it, all.", metavar="REV")
@_flag("--dry-run", "Say what would be applied, and write nothing.", is_flag=True)
@_command
def up(options: Options, report: Report, **flags: Any) -> int:
    """Apply what is pending, in order, under the lock.

    May be started any number of times at once: each migration runs once, and all exit 0. An image that is older than
    the ledger has nothing to do.
    """
    return commands.up(options, report, **flags)


@migrate.command(
    epilog="Examples: `ledgergate migrate status`; `ledgergate migrate status --check && start-the-application`."
)
@_flag("--json", "Write one JSON object.", "as_json", is_flag=True)
@_flag("--check", "Exit 3 unless the ledger holds every migration of the directory.", is_flag=True)
@_command
def status(options: Options, report: Report, **flags: Any) -> int:
    """Show what is applied, pending, missing, changed or dirty, and who holds the lock. Writes nothing."""
    return commands.status(options, report, **flags)


@migrate.command(
    epilog='Example: `ledgergate migrate new "add users"` creates migrations/20250126120000_add_users.sql.'
)
@click.argument("name")
@_flag("--python", "Create a Python migration.", is_flag=True)
@_command
def new(options: Options, report: Report, **flags: Any) -> int:
    """Create an empty migration file, named by the time (UTC) and NAME."""
    return commands.new(options.directory, report, now=datetime.now(UTC), **flags)


@migrate.command(epilog=_examples('docker build --label dev.ledgergate.revision="$(ledgergate migrate revision)" .'))
@_command
def revision(options: Options, report: Report) -> int:
    """Print what an image with this directory expects, as NAME+COUNT.DIGEST."""
    return commands.revision(options.directory, report)
