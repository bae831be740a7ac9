"""What docs/migrate.md shows works, and what there is it shows."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click
import pytest
import yaml

from migrations.cli.conventions import Exit
from migrations.cli.main import migrate
from migrations.cli.options import SETTINGS
from tests.pages import DOCS, blocks, marked, walk

if TYPE_CHECKING:
    from tests.integration.conftest import Ledgergate

NAME = "migrate.md"
PAGE = (DOCS / NAME).read_text(encoding="utf-8")


def test_what_is_shown_runs(ledgergate: Ledgergate) -> None:
    """The marked blocks, from top to bottom, in one shell that stops at the first command that fails."""
    walk(NAME, ledgergate.home, ledgergate.shell)
    assert json.loads((ledgergate.home / "status.json").read_text())["at_expected"] is True
    assert len(marked(NAME)) == 8


def test_manifests_can_be_read_and_name_commands_that_there_are() -> None:
    """Each recipe's command line is one that the program takes."""
    found = [document for text in blocks(NAME, "yaml") for document in yaml.safe_load_all(text)]
    commands = re.findall(r"command: \[ledgergate, migrate, (\w+)(.*?)\]", PAGE)
    assert len(found) == len(commands) == 3
    for name, rest in commands:
        arguments = [word.strip(' "') for word in rest.split(",") if word.strip()]
        context = migrate.commands[name].make_context(name, arguments)
        assert context.args == []


@pytest.mark.parametrize("command", migrate.commands.values(), ids=migrate.commands)
def test_every_command_and_flag_is_explained(command: click.Command) -> None:
    """A command has its heading (lint its own page), and its own flags stand in the page."""
    if command.name == "lint":
        assert "(lint.md)" in PAGE
        return
    assert f"\n### {command.name}\n" in PAGE
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            flag = parameter.opts[0]
            assert re.search(rf"{flag}\b|`{flag.strip('-')}`", PAGE), flag


def test_every_setting_and_exit_code_is_explained() -> None:
    """The page's tables have a row for each setting and each exit code."""
    settings = PAGE.partition("| setting |")[2].partition("## Exit codes")[0]
    assert set(SETTINGS) <= set(re.findall(r"`([a-z-]+)`", settings))
    codes = PAGE.partition("## Exit codes")[2]
    assert all(f"\n| {code.value} |" in codes for code in Exit)
