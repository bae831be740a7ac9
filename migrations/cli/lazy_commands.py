"""The commands of a click group, of which only the one that is called is imported."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click


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
