"""The conventions of every command of `ledgergate`: flags, exit codes, examples, imports. Cheap to import."""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping
from enum import IntEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from click.parser import _OptionParser

Command = TypeVar("Command", bound="Callable[..., Any]")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class Seconds(click.ParamType[float]):
    """A duration in seconds: a number of them, or numbers with units as Go, Kubernetes and PostgreSQL write them.

    Args:
        minimum: The shortest one allowed, in seconds.
        maximum: The longest one allowed, in seconds; by default PostgreSQL's longest `lock_timeout`, 24 days.
    """

    name = "duration"

    def __init__(self, minimum: float = 0, maximum: float = 2147483) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds of 90, 90s, 10m, 1.5h or 1h30m."""
        seconds = _parse_seconds(str(value).strip())
        if seconds is None:
            self.fail(
                f"expected seconds, or a duration such as 500ms, 90s, 10m or 1h30m, got {str(value)!r}", param, ctx
            )
        if not self.minimum <= seconds <= self.maximum:
            bounds = f"at least {self.minimum:g} and at most {self.maximum:.0f} seconds"
            self.fail(f"expected {bounds}, got {str(value)!r}", param, ctx)
        return seconds


def _parse_seconds(text: str) -> float | None:
    """Return a duration in seconds; None where the text is not a duration, or is not finite."""
    total, rest = 0.0, text
    try:
        while rest:
            number, rest = _split(rest, "0123456789.")
            unit, rest = _split(rest, "".join(_UNITS))
            total += float(number) * _UNITS[unit]
    except (ValueError, KeyError):  # a plain number has no unit
        try:
            total = float(text)
        except ValueError:
            return None
    return total if text and math.isfinite(total) else None


def _split(text: str, characters: str) -> tuple[str, str]:
    """Split a text after its leading characters that are among these."""
    rest = text.lstrip(characters)
    return text[: len(text) - len(rest)], rest


SECONDS = Seconds()
"""The type of every flag that is a duration."""


class Exit(IntEnum):
    """Exit codes of every command of `ledgergate`."""

    DONE = 0
    FAILED = 1
    """A migration, the wrapped command or a release failed, or a signal ended the run."""
    USAGE = 2
    """Flags, settings, files or rights have to be corrected."""
    BEHIND = 3
    """The ledger is not at the expected revision, or does not agree with the files."""
    UNREACHABLE = 4
    """The database, the lock or the API server could not be reached in time."""


class _Flag(click.Option):
    """A flag that refuses to be given twice where it takes one value: the last one would win in silence."""

    def add_to_parser(self, parser: _OptionParser, ctx: click.Context) -> None:
        """Let the parser collect every value, for `handle_parse_result`."""
        if self.is_flag or self.multiple or self.count:
            super().add_to_parser(parser, ctx)
        else:
            parser.add_option(obj=self, opts=self.opts, dest=self.name, action="append", nargs=self.nargs)

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Take the only value, or refuse several."""
        values = opts.get(self.name) if self.name else None
        if isinstance(values, list) and not self.multiple:
            if len(values) > 1:
                raise click.UsageError(f"expected {self.opts[0]} once, got it {len(values)} times", ctx)
            opts = {**opts, str(self.name): values[0]}
        return super().handle_parse_result(ctx, opts, args)


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
    return click.option(
        name, *declarations, cls=_Flag, help=help_text, envvar=[twin, *twins], show_envvar=True, **attributes
    )


def format_examples(*lines: str) -> str:
    """Format command lines as the epilog of a command's `--help`."""
    # click wraps an epilog like prose; \b keeps the line breaks of the paragraph that follows.
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


class LazyCommands(MutableMapping[str, "click.Command"]):
    """Commands by name, as `click.Group` takes them, each imported when it is first looked up.

    Args:
        locations: Where each command is, as `package.module:attribute`.
    """

    def __init__(self, locations: Mapping[str, str]) -> None:
        self._locations = dict(locations)
        self._commands: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._commands:
            module, attribute = self._locations[name].split(":")
            self._commands[name] = getattr(import_module(module), attribute)
        return self._commands[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._locations[name] = ""
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._locations[name]
        self._commands.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._locations)

    def __len__(self) -> int:
        return len(self._locations)
