from __future__ import annotations

import tomllib

import pytest

from migrations.settings import SettingsError, choose

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
    return choose(tomllib.loads(text), environment, FLAGS)


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
    ],
)
def test_what_is_wrong_with_the_file_is_told(text: str, environment: str, words: str) -> None:
    """A misspelt name is an error, not silence."""
    with pytest.raises(SettingsError) as refused:
        chosen(text, environment)
    assert words in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    """Two misspelt names are two problems."""
    with pytest.raises(SettingsError) as refused:
        chosen("[defaults]\nx = 1\n[default]\n", "y")
    assert str(refused.value).count(";") == 2
