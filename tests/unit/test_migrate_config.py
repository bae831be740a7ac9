from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from migrations.cli.config import ConfigError, select_environment
from migrations.cli.options import common_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from migrations.cli.command import CommonOptions
    from migrations.cli.report import CommandReporter

FLAGS = ("dir", "database-url", "lock-timeout")
FILE = """
[defaults]
dir = "db/migrations"
lock-timeout = 60

[environments.staging]
lock-timeout = 5
database-url = "postgresql://staging/app"
"""


def chosen(text: str, environment: str) -> dict[str, object]:
    return select_environment(tomllib.loads(text), environment, FLAGS, default="development")


def test_an_environment_comes_on_top_of_the_defaults() -> None:
    """Its settings replace those of the same name; the default environment need not be there."""
    assert chosen(FILE, "development") == {"dir": "db/migrations", "lock_timeout": 60}
    assert chosen(FILE, "staging") == {
        "dir": "db/migrations",
        "lock_timeout": 5,
        "database_url": "postgresql://staging/app",
    }


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        (FILE, "production", "development, staging"),
        ("[defaults]\ndri = 'x'", "development", "'dri'"),
        ("[default]\ndir = 'x'", "development", "'default'"),
        ("defaults = 1", "development", "a table [defaults]"),
        ("environments = 1", "development", "[environments.NAME]"),
        ("[environments]\nx = 1", "x", "a table [environments.x]"),
        (FILE, "production", "[environments.production] may be empty"),
        (FILE + "[environments.production]\ndri = 'x'", "staging", "'dri'"),
        ("[defaults]\ndri = 'x'", "development", "database-url, dir, lock-timeout"),
        ("[defaults]\nlock-timeout = ['x']", "development", "got a list"),
        ("[defaults]\ndir = ['x', 1]", "development", "a list of strings, got a list"),
        ("[defaults]\ndir = []", "development", "got an empty list"),
        ("[defaults]\ndir = 1", "development", "a list of strings, got a int"),
        ("[defaults]\ndir = ['x', '${DIR}']", "development", "LEDGERGATE_DIR"),
        ("[defaults]\nlock-timeout = []", "development", "got a list"),
        ("[defaults]\ndatabase-url = '${URL}'", "development", "LEDGERGATE_DATABASE_URL"),
    ],
)
def test_problems_of_the_file_are_reported(text: str, environment: str, words: str) -> None:
    """A misspelt name is an error."""
    with pytest.raises(ConfigError) as refused:
        chosen(text, environment)
    assert words in str(refused.value)


def test_all_problems_are_reported_at_once() -> None:
    """Three misspelt names are three problems."""
    with pytest.raises(ConfigError) as refused:
        chosen("[defaults]\nx = 1\n[default]\n", "y")
    assert len(refused.value.problems) == 3


def test_no_value_is_shown() -> None:
    """A database URL has a password in it."""
    with pytest.raises(ConfigError) as refused:
        chosen("[defaults]\ndatabase-url = 'postgresql://u:s3cret@${HOST}/x'", "development")
    assert "s3cret" not in str(refused.value)


WHOLE = """
[defaults]
lock-timeout = 1
table = "of_defaults"

[environments.staging]
lock-timeout = 2
table = "of_staging"
"""


@click.command()
@common_options
def probe(options: CommonOptions, reporter: CommandReporter) -> int:
    """Show two of the flags."""
    del reporter
    click.echo(f"{options.lock_timeout:g} {options.table}")
    return 0


@click.command()
@common_options
def probe_directories(options: CommonOptions, reporter: CommandReporter) -> int:
    """Show the directories."""
    del reporter
    click.echo(" ".join(map(str, options.directories)))
    return 0


@pytest.mark.parametrize(
    ("file", "environment", "flags", "expected"),
    [
        ("", {}, [], "600 None"),
        (WHOLE, {}, [], "1 of_defaults"),
        (WHOLE, {"NODE_ENV": "staging"}, [], "2 of_staging"),
        (WHOLE, {"LEDGERGATE_ENV": "staging"}, [], "2 of_staging"),
        (WHOLE, {"LEDGERGATE_ENV": "staging", "NODE_ENV": "development"}, [], "2 of_staging"),
        (WHOLE, {"LEDGERGATE_ENV": "staging"}, ["--env", "development"], "1 of_defaults"),
        (WHOLE, {"NODE_ENV": "staging", "LEDGERGATE_LOCK_TIMEOUT": "3"}, [], "3 of_staging"),
        (WHOLE, {"NODE_ENV": "staging", "LEDGERGATE_LOCK_TIMEOUT": "3"}, ["--lock-timeout", "4"], "4 of_staging"),
        ("", {"LEDGERGATE_LOCK_TIMEOUT": "3"}, [], "3 None"),
        ("", {"NODE_ENV": "anything"}, [], "600 None"),
        (WHOLE, {"NODE_ENV": ""}, [], "1 of_defaults"),
    ],
)
def test_precedence_of_a_value_that_is_set_in_several_places(
    file: str,
    environment: Mapping[str, str],
    flags: Sequence[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first of: the flag, its environment twin, the environment in the file, the file's defaults, the default."""
    monkeypatch.chdir(tmp_path)
    for name in ("NODE_ENV", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    if file:
        (tmp_path / "ledgergate.toml").write_text(file)
    done = CliRunner().invoke(probe, list(flags), env=dict(environment))
    assert (done.exit_code, done.output) == (0, f"{expected}\n")


def test_a_file_that_cannot_be_used_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, and the message names the file."""
    monkeypatch.chdir(tmp_path)
    for text in ("[defaults", "[defaults]\nx = 1", "[defaults]\nlock-timeout = 'soon'"):
        (tmp_path / "ledgergate.toml").write_text(text)
        done = CliRunner().invoke(probe, [])
        assert done.exit_code == 2, text
        assert "ledgergate.toml" in done.output or "--lock-timeout" in done.output


@pytest.mark.parametrize(("value", "expected"), [('"core"', "core"), ('["core", "shop"]', "core shop")])
def test_directories_in_the_file(value: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is one directory, and not one for each of its characters; a list is several."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ledgergate.toml").write_text(f"[defaults]\ndir = {value}\n")
    done = CliRunner().invoke(probe_directories, [])
    assert (done.exit_code, done.output) == (0, f"{expected}\n")
