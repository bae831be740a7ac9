"""What every command does with flags that are given twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from webhook.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator


def _commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


COMMANDS = list(_commands(main))
FLAGS = [
    pytest.param(command, option, spelling, id=f"{name} {spelling}")
    for name, command in COMMANDS
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag and not option.multiple and not option.count
    for spelling in option.opts
]


def test_there_are_flags_to_try() -> None:
    """Every command of both packages is looked at."""
    assert len(COMMANDS) > 15
    assert len(FLAGS) > 100


@pytest.mark.parametrize(("command", "option", "spelling"), FLAGS)
def test_a_flag_that_takes_one_value_is_refused_twice(
    command: click.Command, option: click.Option, spelling: str
) -> None:
    """The last one would win in silence. The message shows no value: one may hold a password."""
    value = next(iter(option.type.choices)) if isinstance(option.type, click.Choice) else "7"
    with pytest.raises(click.UsageError) as refused:
        command.make_context("x", [spelling, value, spelling, value], resilient_parsing=False)
    assert f"expected {option.opts[0]} once, got it 2 times" in refused.value.message


def test_spellings_of_one_flag_are_one_flag() -> None:
    """`-n` and `--namespace` name the same value."""
    status = dict(COMMANDS)["status"]
    with pytest.raises(click.UsageError, match="expected --namespace once, got it 2 times"):
        status.make_context("status", ["-n", "a", "--namespace", "a"])


def test_flags_without_a_value_may_be_repeated() -> None:
    """Repeating such a flag changes nothing."""
    verify = dict(COMMANDS)["migrate verify"]
    assert verify.make_context("verify", ["--json", "--json"]).params["as_json"]


@pytest.mark.parametrize(
    ("text", "directories"), [("a", ["a"]), ("a:b", ["a", "b"]), ("my migrations", ["my migrations"])]
)
def test_directories_of_the_environment(text: str, directories: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Several are separated by colons; a blank is part of a name."""
    monkeypatch.setenv("LEDGERGATE_DIR", text)
    context = dict(COMMANDS)["migrate revision"].make_context("revision", [])
    assert list(context.params["dir"]) == directories
