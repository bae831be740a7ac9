"""The optional settings file `ledgergate.toml`: `[defaults]`, and `[environments.NAME]` on top of them.

ValueError
└── SettingsError   every problem of the file at once
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

FILE = "ledgergate.toml"
DEFAULT_ENVIRONMENT = "development"


class ConfigError(ValueError):
    """A settings file that cannot be used.

    Attributes:
        problems: All of them.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def select_environment(document: Mapping[str, Any], environment: str, flags: Collection[str]) -> dict[str, Any]:
    """Give the settings of one environment, by the names of the flags that they stand for.

    The other environments are checked too, so that a slip in one that is used elsewhere shows here.

    Args:
        document: The parsed file.
        environment: Its name; one that the file does not have is a mistake, unless it is the default one.
        flags: Flags that may be set, without dashes in front.

    Raises:
        SettingsError: With every problem.
    """
    problems = [
        f"expected the tables [defaults] and [environments.NAME], got {key!r}"
        for key in document
        if key not in {"defaults", "environments"}
    ]
    environments = document.get("environments", {})
    if not isinstance(environments, dict):
        raise ConfigError("expected tables [environments.NAME], got a value named environments")
    if environment not in environments and environment != DEFAULT_ENVIRONMENT:
        known = ", ".join(sorted({DEFAULT_ENVIRONMENT, *environments}))
        problems.append(
            f"expected --env (LEDGERGATE_ENV, NODE_ENV) to name an environment of the file ({known}), "
            f"got {environment!r}; a table [environments.{environment}] may be empty"
        )
    tables = {"defaults": document.get("defaults", {})}
    tables |= {f"environments.{name}": table for name, table in environments.items()}
    for title, table in tables.items():
        problems += _problems(title, table, flags)
    if problems:
        raise ConfigError(*problems)
    chosen = tables["defaults"] | tables.get(f"environments.{environment}", {})
    return {key.replace("-", "_"): value for key, value in chosen.items()}


def _problems(title: str, table: object, flags: Collection[str]) -> Iterator[str]:
    """Find what is wrong with one table; a value, which may hold a password, is never shown."""
    if not isinstance(table, dict):
        yield f"expected a table [{title}], got a value of this name"
        return
    for key, value in table.items():
        if key not in flags:
            yield f"expected settings of [{title}] among {', '.join(sorted(flags))}, got {key!r}"
        elif not isinstance(value, str | int | float):
            yield f"expected {key} of [{title}] to be a string, a number or a boolean, got a {type(value).__name__}"
        elif isinstance(value, str) and "${" in value:
            twin = f"LEDGERGATE_{key.upper().replace('-', '_')}"
            yield f"{key} of [{title}] has a ${{...}}, which is not expanded; leave it out and set {twin} instead"
