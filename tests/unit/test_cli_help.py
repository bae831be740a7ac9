"""What `--help` prints of every command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from webhook.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator


def paths(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, groups included."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from paths(inner, *path, name)


@pytest.mark.parametrize("path", list(paths(main)), ids=" ".join)
def test_help_shows_no_mark_of_its_source(path: tuple[str, ...]) -> None:
    """Neither the mark that keeps the lines of examples, nor any other control character, nor an escape of it."""
    done = CliRunner().invoke(main, [*path, "--help"])
    assert done.exit_code == 0
    assert all(character == "\n" or character.isprintable() for character in done.output)
    assert "\\b" not in done.output


@pytest.mark.parametrize("path", [(), ("migrate",)], ids=" ".join)
def test_a_list_of_commands_has_whole_sentences(path: tuple[str, ...]) -> None:
    """None is cut off at the end of its line."""
    done = CliRunner().invoke(main, [*path, "--help"])
    listed = done.output.partition("Commands:\n  ")[2].partition("\n\n")[0]
    entries = [" ".join(text.split()) for text in re.split(r"\n  (?=\w)", listed)]
    assert len(entries) >= 6
    assert [entry for entry in entries if not entry.endswith(".") or entry.endswith("...")] == []
