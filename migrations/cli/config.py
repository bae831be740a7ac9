"""The optional settings file `ledgergate.toml`: `[defaults]`, and `[environments.NAME]` on top of them.

ValueError
└── ConfigError   every problem of the file at once
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


class ConfigError(ValueError):
    """A settings file that cannot be used.

    Attributes:
        problems: What is wrong, one sentence each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def select_environment(
    document: Mapping[str, Any], environment: str, flags: Collection[str], *, default: str
) -> dict[str, Any]:
    """Return the settings of one environment, by the parameter names of the flags that they set.

    The other environments are checked too, so that a mistake in one that is used elsewhere shows here.

    Args:
        document: The parsed file.
        environment: Name of the environment; the file must have it, unless it is the default one.
        flags: Flags that may be set, without the dashes in front.
        default: Name of the default environment.

    Raises:
        ConfigError: With every problem.
    """
    problems = [
        f"expected the tables [defaults], [environments.NAME] and [lint], got {key!r}"
        for key in document
        if key not in {"defaults", "environments", "lint"}  # `ledgergate migrate lint` reads the last one
    ]
    environments = document.get("environments", {})
    if not isinstance(environments, dict):
        raise ConfigError("expected tables [environments.NAME], got a value named environments")
    if environment not in environments and environment != default:
        known = ", ".join(sorted({default, *environments}))
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
    settings = tables["defaults"] | tables.get(f"environments.{environment}", {})
    return {key.replace("-", "_"): value for key, value in settings.items()}


def _problems(title: str, table: object, flags: Collection[str]) -> Iterator[str]:
    """Find what is wrong with one table. No message shows a value, which may hold a password."""
    if not isinstance(table, dict):
        yield f"expected a table [{title}], got a value of this name"
        return
    for key, value in table.items():
        if key not in flags:
            yield f"expected settings of [{title}] among {', '.join(sorted(flags))}, got {key!r}"
            continue
        items = value if key == "dir" and isinstance(value, list) else [value]
        kinds = (str,) if key == "dir" else (str, int, float)
        if not items:
            yield f"expected {key} of [{title}] to name a directory, got an empty list; leave it out for the default"
        elif not all(isinstance(item, kinds) for item in items):
            wanted = "a string or a list of strings" if key == "dir" else "a string, a number or a boolean"
            yield f"expected {key} of [{title}] to be {wanted}, got a {type(value).__name__}"
        elif any(isinstance(item, str) and "${" in item for item in items):
            twin = f"LEDGERGATE_{key.upper().replace('-', '_')}"
            yield f"{key} of [{title}] has a ${{...}}, which is not expanded; leave it out and set {twin} instead"
