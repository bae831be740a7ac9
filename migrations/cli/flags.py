"""How every command of `ledgergate` declares a flag and shows examples; cheap to import, so that every command can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")

SECONDS = click.FloatRange(min=0)


def flag(
    name: str, help_text: str, *declarations: str, twins: tuple[str, ...] = (), **attributes: Any
) -> Callable[[Command], Command]:
    """Declare a flag with its environment twin LEDGERGATE_<FLAG>, both of which `--help` shows.

    Args:
        name: Long name, such as `--dry-run`.
        help_text: Shown in `--help`.
        declarations: Further names as click takes them: a short one, or the name of the parameter.
        twins: Further environment variables, which count after the twin.
        attributes: Passed on to `click.option`.
    """
    twin = "LEDGERGATE_" + name.removeprefix("--").upper().replace("-", "_")
    return click.option(name, *declarations, help=help_text, envvar=[twin, *twins], show_envvar=True, **attributes)


def format_examples(*lines: str) -> str:
    """Format command lines as the epilog of a command's `--help`."""
    # click wraps an epilog like prose; \b keeps the line breaks of the paragraph that follows.
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
