"""The flags that every `ledgergate migrate` command takes, each with an environment twin and a place in the file.

What is said in several places counts in this order: the flag, its twin LEDGERGATE_<FLAG>, `[environments.NAME]` and
`[defaults]` of ledgergate.toml, the default.
"""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migrations.cli import termination
from migrations.cli.config import DEFAULT_ENVIRONMENT, FILE, ConfigError, select_environment
from migrations.cli.invocation import CommonOptions
from migrations.cli.report import open_reporter

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")

_SETTINGS = (
    "dir",
    "database-url",
    "schema",
    "table",
    "connect-timeout",
    "lock-timeout",
    "log-format",
    "allow-out-of-order",
    "ddl-lock-timeout",
    "ddl-retry-timeout",
)


def flag(
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
        context.default_map = select_environment(document, environment, _SETTINGS)
    except (ConfigError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise click.UsageError(f"{FILE}: {error}") from error


SECONDS = click.FloatRange(min=0)
_FLAGS = (
    flag("--dir", "Directory of the migrations.", default="migrations", show_default="./migrations", metavar="PATH"),
    flag(
        "--database-url",
        "postgresql://USER:PASSWORD@HOST:PORT/NAME. Without it: libpq's PG* variables, else DB_HOST DB_PORT DB_NAME "
        "DB_USER DB_PASSWORD. `ps` shows a flag, so put a password into the environment.",
        twins=("DATABASE_URL",),
        metavar="URL",
    ),
    flag(
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
    flag("--schema", "Schema of the ledger's table.", show_default="public", metavar="NAME"),
    flag("--table", "Table of the ledger.", show_default="ledgergate_migrations", metavar="NAME"),
    flag(
        "--connect-timeout",
        "How long to try to connect: a proxy beside us may start later than we do.",
        type=SECONDS,
        default=30.0,
        show_default=True,
        metavar="SECONDS",
    ),
    flag(
        "--lock-timeout",
        "How long to wait while somebody else migrates.",
        type=SECONDS,
        default=600.0,
        show_default=True,
        metavar="SECONDS",
    ),
    flag(
        "--log-format",
        "Lines for people or JSON objects. Without it: progress on a terminal, else text.",
        type=click.Choice(["text", "json"]),
    ),
)
_LIMITS = (
    flag(
        "--ddl-lock-timeout",
        "How long a statement may wait for a lock, while others queue behind it; then the migration is rolled back and "
        "tried again. 0 is for ever. `-- migrate:up lock-timeout:2s` is for one migration.",
        type=SECONDS,
        default=5.0,
        show_default=True,
        metavar="SECONDS",
    ),
    flag(
        "--ddl-retry-timeout",
        "For how long to try a migration again that got no lock, or ran into a deadlock. 0 is one try.",
        type=SECONDS,
        default=300.0,
        show_default=True,
        metavar="SECONDS",
    ),
)
_OPTIONS = ("database_url", "schema", "table", "connect_timeout", "lock_timeout")


def command(body: Callable[..., int]) -> Callable[..., None]:
    """Add the shared flags to a command; it gets them as `Options`, beside a `Report` and its own flags."""

    @wraps(body)
    def call(**flags: Any) -> None:
        log_format = flags.pop("log_format")
        shared = {"directory": Path(flags.pop("dir"))} | {name: flags.pop(name) for name in _OPTIONS}
        context = click.get_current_context()
        with open_reporter(log_format) as report:
            code = body(CommonOptions(**shared), report, **flags)
        termination.write_termination_log(os.environ, f"migrate {context.info_name}", code, report.summary)
        context.exit(code)

    for declared in reversed(_FLAGS):
        call = declared(call)
    return call


def limit_options(body: Callable[..., int]) -> Callable[..., int]:
    """Add the flags of a command that runs migrations; it gets them as `limits`."""

    @wraps(body)
    def call(*arguments: Any, ddl_lock_timeout: float, ddl_retry_timeout: float, **flags: Any) -> int:
        from migrations.runner.run import MigrationLimits  # noqa: PLC0415 - commands without limits do without

        chosen = MigrationLimits(lock_timeout=ddl_lock_timeout, retry_for=ddl_retry_timeout)
        return body(*arguments, limits=chosen, **flags)

    for declared in reversed(_LIMITS):
        call = declared(call)
    return call


def format_examples(*lines: str) -> str:
    """Give the end of a command's `--help`."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
