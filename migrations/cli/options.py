"""The flags that every `ledgergate migrate` command takes, each with an environment twin and a setting in the file.

A value is taken from the first of these that has one: the flag, its twin LEDGERGATE_<FLAG>, `[environments.NAME]` and
`[defaults]` of ledgergate.toml, the default.
"""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrations.cli.command import CommonOptions
from migrations.cli.conventions import SECONDS, flag
from migrations.cli.report import open_reporter, write_termination_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from migrations.cli.conventions import Command

SETTINGS_FILE = "ledgergate.toml"
DEFAULT_ENVIRONMENT = "development"
SETTINGS = (
    "dir",
    "database-url",
    "schema",
    "table",
    "connect-timeout",
    "lock-timeout",
    "log-format",
    "role",
    "allow-out-of-order",
    "ddl-lock-timeout",
    "ddl-retry-timeout",
)
"""Flags that the settings file may set; the others belong to one call."""


def _load_env_files(context: click.Context, _: click.Parameter, paths: Sequence[str]) -> None:
    """Set the variables of files, except those that the environment has; of several files, the first one counts."""
    if not paths:
        return
    from migrations.cli.env_file import EnvFileError, read_env_file  # noqa: PLC0415 - few runs have such a file

    problems: list[str] = []
    for path in paths:
        try:
            for name, value in read_env_file(Path(path), os.environ).items():
                os.environ.setdefault(name, value)
        except EnvFileError as error:
            problems += error.problems
    if problems:
        raise click.UsageError("\n".join(problems), context)


def _apply_settings(context: click.Context, _: click.Parameter, environment: str) -> None:
    """Make the settings file's values the defaults of the command's flags."""
    file = Path(SETTINGS_FILE)
    if not file.is_file():
        return
    # Imported here because few projects have the file, and every pod that starts waits for these imports.
    import tomllib  # noqa: PLC0415

    from migrations.cli.config import ConfigError, select_environment  # noqa: PLC0415

    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        settings = select_environment(document, environment, SETTINGS, default=DEFAULT_ENVIRONMENT)
    except (ConfigError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise click.UsageError(f"{SETTINGS_FILE}: {error}") from error
    if isinstance(settings.get("dir"), str):
        settings["dir"] = [settings["dir"]]
    context.default_map = settings


_COMMON_FLAGS = (
    flag(
        "--dir",
        "Directory of the migrations. May be given several times for a tool that has several, such as knex; in the "
        "environment, separate them by colons.",
        multiple=True,
        type=click.Path(),
        default=("migrations",),
        show_default="./migrations",
        metavar="PATH",
    ),
    flag(
        "--database-url",
        "postgresql://USER:PASSWORD@HOST:PORT/NAME. Without it: libpq's PG* variables, else DB_HOST DB_PORT DB_NAME "
        "DB_USER DB_PASSWORD. `ps` shows a flag, so put a password into the environment.",
        twins=("DATABASE_URL",),
        metavar="URL",
    ),
    flag(
        "--env-file",
        "File of NAME=VALUE lines, such as .env: each variable is set that is not set already. May be given several "
        "times.",
        multiple=True,
        type=click.Path(),
        is_eager=True,  # the other flags look at their variables afterwards
        expose_value=False,
        callback=_load_env_files,
        metavar="PATH",
    ),
    flag(
        "--env",
        f"Which [environments.NAME] of ./{SETTINGS_FILE} to use, if there is such a file.",
        twins=("NODE_ENV",),
        default=DEFAULT_ENVIRONMENT,
        show_default=True,
        is_eager=True,  # the file's values must be known before the other flags take their defaults
        expose_value=False,
        callback=_apply_settings,
        metavar="NAME",
    ),
    flag("--schema", "Schema of the ledger's table.", show_default="public", metavar="NAME"),
    flag(
        "--role",
        "Role to act as (SET ROLE), such as the schema's owner; what is created belongs to it. Without it: the role "
        "that connects.",
        metavar="NAME",
    ),
    flag("--table", "Table of the ledger.", show_default="ledgergate_migrations", metavar="NAME"),
    flag(
        "--connect-timeout",
        "How long to try to connect; a proxy in the same pod may start later than this command.",
        type=SECONDS,
        default="30s",
        show_default=True,
        metavar="DURATION",
    ),
    flag(
        "--lock-timeout",
        "How long to wait for the lock while another process migrates.",
        type=SECONDS,
        default="10m",
        show_default=True,
        metavar="DURATION",
    ),
    flag(
        "--log-format",
        "Write lines of text, or JSON objects. Without it: a progress bar on a terminal, else text.",
        type=click.Choice(["text", "json"]),
    ),
)
_LIMIT_FLAGS = (
    flag(
        "--ddl-lock-timeout",
        "How long a statement may wait for a lock, while others queue behind it; then the migration is rolled back and "
        "tried again. 0 is no limit. `-- migrate:up lock-timeout:2s` sets it for one migration.",
        type=SECONDS,
        default="5s",
        show_default=True,
        metavar="DURATION",
    ),
    flag(
        "--ddl-retry-timeout",
        "For how long to try a migration again that got no lock, or ran into a deadlock. 0 is one try.",
        type=SECONDS,
        default="5m",
        show_default=True,
        metavar="DURATION",
    ),
)
CONTRACT_PHASE = "contract"
_EXPAND_PHASE = "expand"
_OPTIONS = ("database_url", "schema", "table", "connect_timeout", "lock_timeout", "role")


def common_options(body: Callable[..., int]) -> Callable[..., None]:
    """Add the common flags to a command, whose body takes CommonOptions, a CommandReporter and its own flags."""

    @wraps(body)
    def call(**flags: Any) -> None:
        log_format = flags.pop("log_format")
        shared = {"directories": tuple(map(Path, flags.pop("dir")))} | {name: flags.pop(name) for name in _OPTIONS}
        context = click.get_current_context()
        with open_reporter(log_format) as reporter:
            code = body(CommonOptions(**shared), reporter, **flags)
        write_termination_log(os.environ, f"migrate {context.info_name}", code, reporter.summary)
        context.exit(code)

    for declare in reversed(_COMMON_FLAGS):
        call = declare(call)
    return call


def phase_flag(help_text: str, default: str = _EXPAND_PHASE) -> Callable[[Command], Command]:
    """Return the flag --phase, which the body of a command takes as `phase`.

    Args:
        help_text: What each of the two phases means to the command.
        default: The phase without the flag.
    """
    phases = click.Choice((_EXPAND_PHASE, CONTRACT_PHASE))
    return flag("--phase", help_text, type=phases, default=default, show_default=True)


def limit_options(body: Callable[..., int]) -> Callable[..., int]:
    """Add the flags that limit each migration to a command, whose body takes them as `limits`."""

    @wraps(body)
    def call(*arguments: Any, ddl_lock_timeout: float, ddl_retry_timeout: float, **flags: Any) -> int:
        from migrations.runner.run import MigrationLimits  # noqa: PLC0415 - commands without limits do without

        limits = MigrationLimits(lock_timeout=ddl_lock_timeout, retry_for=ddl_retry_timeout)
        return body(*arguments, limits=limits, **flags)

    for declare in reversed(_LIMIT_FLAGS):
        call = declare(call)
    return call
