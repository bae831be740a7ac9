"""Every flag that is a duration takes numbers of seconds and numbers with units, by flag and by environment."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.cli.conventions import SECONDS, Seconds
from webhook.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator


def options(command: click.Command, path: str = "ledgergate") -> Iterator[tuple[str, click.Option]]:
    """Yield every flag of a command and of the commands in it."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{path} {parameter.opts[0]}", parameter
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from options(inner, f"{path} {name}")


DURATIONS = {path: option for path, option in options(main) if isinstance(option.type, Seconds)}


def test_every_flag_that_waits_is_a_duration() -> None:
    """No flag with such a name takes a bare number; help shows that it is a duration, and its default with a unit."""
    waits = re.compile(r"--(.*timeout|drain|lease-duration|wait|interval)\Z")
    named = {path for path, _ in options(main) if waits.match(path.rpartition(" ")[2])}
    assert named == DURATIONS.keys()
    assert len(named) > 20
    for option in DURATIONS.values():
        assert option.metavar == "DURATION"
        assert re.fullmatch(r"0|[0-9]+[smh]", str(option.default)), option.name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0.0), ("90", 90.0), ("2.5", 2.5), ("1e3", 1000.0), (" 5 ", 5.0)),
        *(("500ms", 0.5), ("90s", 90.0), ("10m", 600.0), ("1min", 60.0), ("1.5h", 5400.0), ("1d", 86400.0)),
        *(("1h30m", 5400.0), ("1m500ms", 60.5)),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    """In seconds, whichever unit it is written in."""
    assert SECONDS.convert(text, None, None) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "10 m", "10x", "-1", "-1s", "nan", "inf", "1h-5m", "10M", "\u0661s", "1e9", "30d"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """The message shows what was given."""
    with pytest.raises(click.UsageError) as refused:
        SECONDS.convert(text, None, None)
    assert repr(text) in str(refused.value.message)


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """Whatever it is, it is finite, within the bounds, or a usage error."""
    with suppress(click.UsageError):
        assert 0 <= SECONDS.convert(text, None, None) < 2**31


@pytest.mark.parametrize("path", DURATIONS)
def test_the_environment_takes_units_too(path: str) -> None:
    """The twin of each flag is read by the same type."""
    option = DURATIONS[path]
    assert isinstance(option.envvar, list)
    command = click.Command("c", params=[option], callback=lambda **_flags: None)
    with command.make_context("c", [option.opts[0], "4m"]) as context:
        assert context.params[str(option.name)] == 240.0
    assert option.envvar[0] == "LEDGERGATE_" + option.opts[0].removeprefix("--").upper().replace("-", "_")
