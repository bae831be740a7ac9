from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from migrations.cli import new
from migrations.cli.main import migrate
from migrations.cli.report import LineReporter
from migrations.cli.revision import print_revision
from migrations.core.migration import FilesError
from migrations.files.native import load_directory

if TYPE_CHECKING:
    from pathlib import Path

SHARED = {
    "--dir",
    "--database-url",
    "--env",
    "--schema",
    "--table",
    "--connect-timeout",
    "--lock-timeout",
    "--log-format",
}
NOW = datetime(2025, 1, 26, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("command", migrate.commands.values(), ids=migrate.commands)
def test_every_flag_has_an_environment_twin_that_help_shows(command: click.Command) -> None:
    """The twin of `--some-flag` is LEDGERGATE_SOME_FLAG; every command takes the shared flags."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert {option.opts[0] for option in options} >= SHARED
    text = CliRunner().invoke(command, ["--help"], terminal_width=200).output
    for option in options:
        twin = "LEDGERGATE_" + option.opts[0].strip("-").upper().replace("-", "_")
        assert isinstance(option.envvar, list)
        assert option.envvar[0] == twin
        assert twin in text


def test_a_new_migration_is_named_by_the_time_and_must_be_filled_in(tmp_path: Path) -> None:
    """An SQL file is refused as long as it is empty; no file is ever overwritten."""
    directory = tmp_path / "migrations"
    assert new.create(directory, LineReporter(), "Add Users!", python=False, now=NOW) == 0
    path = directory / "20250126120000_add_users.sql"
    with pytest.raises(FilesError, match="a statement in the up section"):
        load_directory(directory)
    path.write_text(path.read_text().replace("up\n", "up\ncreate table users (id int);\n"))
    assert [migration.revision for migration in load_directory(directory)] == ["20250126120000_add_users"]
    assert new.create(directory, LineReporter(), "add-users", python=False, now=NOW) == 0
    assert "create table" in path.read_text()
    assert (directory / "20250126120001_add_users.sql").exists()


def test_a_new_migration_is_the_newest(tmp_path: Path) -> None:
    """Two made in one second, or by a clock that is late, still sort in the order in which they were made."""
    names = ["users", "orders", "items"]
    for late, name in enumerate(names):
        assert new.create(tmp_path, LineReporter(), name, python=False, now=NOW - timedelta(hours=late)) == 0
    assert [path.stem for path in sorted(tmp_path.iterdir())] == [
        "20250126120000_users",
        "20250126120001_orders",
        "20250126120002_items",
    ]


def test_a_new_python_migration_can_be_read(tmp_path: Path) -> None:
    """It loads, with both `up` and `down`, as `new --python` wrote it."""
    assert new.create(tmp_path, LineReporter(), "backfill", python=True, now=NOW) == 0
    (migration,) = load_directory(tmp_path)
    assert migration.revision == "20250126120000_backfill"
    assert migration.down is not None


def test_only_the_path_is_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that `$EDITOR "$(ledgergate migrate new ...)"` works; a changed name is noted on standard error."""
    for number, (name, slug) in enumerate((("Größe: add!", "gr_e_add"), ("plain", "plain"))):
        assert new.create(tmp_path, LineReporter(), name, python=False, now=NOW) == 0
        captured = capsys.readouterr()
        assert captured.out == f"{tmp_path}/2025012612000{number}_{slug}.sql\n"
        assert (slug in captured.err) is (name != slug)


@pytest.mark.parametrize("command", migrate.commands.values(), ids=migrate.commands)
def test_help_teaches_by_example(command: click.Command) -> None:
    """Every command shows at least one command line that can be copied."""
    text = CliRunner().invoke(command, ["--help"], terminal_width=200).output
    assert "xample" in text
    assert "ledgergate migrate" in text.partition("xample")[2]


def test_a_name_needs_a_letter_or_a_digit(tmp_path: Path) -> None:
    """Without one, nothing would follow the time in the file's name."""
    assert new.create(tmp_path, LineReporter(), "?!", python=False, now=NOW) == 2
    assert not list(tmp_path.iterdir())


def test_a_directory_declares_its_revision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The long form goes to standard output and nothing else; an empty directory has none."""
    assert print_revision([tmp_path], LineReporter()) == 2
    assert capsys.readouterr().out == ""
    (tmp_path / "20250101000000_a.sql").write_text("-- migrate:up\nselect 1;")
    assert print_revision([tmp_path], LineReporter()) == 0
    assert capsys.readouterr().out == "20250101000000_a+1.5234a921d098\n"


def test_a_wait_is_reported_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """One line at once, then one every ten seconds."""
    reporter = LineReporter()
    for second in range(21):
        reporter.waiting(None, float(second))
    assert len(capsys.readouterr().out.splitlines()) == 3
