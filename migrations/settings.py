"""The optional settings file `ledgergate.toml`: `[defaults]`, and `[environments.NAME]` on top of them.

ValueError
└── SettingsError   every problem of the file at once
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FILE = "ledgergate.toml"
DEFAULT_ENVIRONMENT = "development"


class SettingsError(ValueError):
    """A settings file that cannot be used."""


def choose(document: Mapping[str, Any], environment: str, flags: Collection[str]) -> dict[str, Any]:
    """Give the settings of one environment, by the names of the flags that they stand for.

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
        raise SettingsError("expected tables [environments.NAME], got a value named environments")
    if environment not in environments and environment != DEFAULT_ENVIRONMENT:
        known = ", ".join(sorted({DEFAULT_ENVIRONMENT, *environments}))
        problems.append(f"expected --env to name an environment of the file ({known}), got {environment!r}")
    chosen: dict[str, Any] = {}
    for title, table in (
        ("defaults", document.get("defaults", {})),
        (f"environments.{environment}", environments.get(environment, {})),
    ):
        if not isinstance(table, dict):
            problems.append(f"expected a table [{title}], got a value of this name")
            continue
        problems += [
            f"expected settings of [{title}] among {', '.join(sorted(flags))}, got {key!r}"
            for key in table
            if key not in flags
        ]
        chosen |= table
    if problems:
        raise SettingsError("; ".join(problems))
    return {key.replace("-", "_"): value for key, value in chosen.items()}
