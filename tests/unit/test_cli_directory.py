"""The directories and extensions that flags name, as a tool with several of them finds its migrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.cli.directory import list_revisions
from migrations.dialects.catalogue import CONCRETE_DIALECTS, find_dialect
from migrations.files.external import ExternalFilesError

if TYPE_CHECKING:
    from pathlib import Path

KNEX = find_dialect("knex")


def make(directory: Path, *names: str) -> Path:
    """Create a directory of empty files."""
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).touch()
    return directory


def test_several_directories_are_one_list(tmp_path: Path) -> None:
    """By name across them, whatever their order: the newest is the newest of all."""
    core, shop = make(tmp_path / "core", "20240301_c.js"), make(tmp_path / "shop", "20240201_b.ts", "20240401_late.js")
    for directories in ([core, shop], [shop, core]):
        assert list_revisions(KNEX, directories) == ("20240201_b", "20240301_c", "20240401_late")
        assert KNEX.declare(list_revisions(KNEX, directories)).name == "20240401_late"


def test_problems_of_all_directories_are_reported_at_once(tmp_path: Path) -> None:
    """Missing ones, empty ones, and a name that is in two."""
    a, b = make(tmp_path / "a", "1_a.js"), make(tmp_path / "b", "1_a.ts")
    empty = make(tmp_path / "empty")
    with pytest.raises(ExternalFilesError) as refused:
        list_revisions(KNEX, [a, b, empty, tmp_path / "gone"])
    assert len(refused.value.problems) == 3
    assert f"found 1_a in {a} and {b}" in refused.value.problems[0]


def test_a_directory_that_is_named_twice(tmp_path: Path) -> None:
    """The message is about the directory, not about duplicate migrations; a symbolic link to it counts as the same."""
    core, link = make(tmp_path / "core", "20240301_c.js"), tmp_path / "link"
    link.symlink_to(core)
    with pytest.raises(ExternalFilesError) as refused:
        list_revisions(KNEX, [core, tmp_path / "." / "core", link])
    assert refused.value.problems == (
        f"expected each --dir once, got {core} again",
        f"expected each --dir once, got {link}, which is {core}",
    )


@pytest.mark.parametrize("dialect", ["ledgergate", "alembic", "golang-migrate"])
def test_tools_with_one_directory(dialect: str, tmp_path: Path) -> None:
    """Several are refused, not merged in an order that the tool does not have."""
    with pytest.raises(ExternalFilesError, match=f"expected one --dir for {dialect}, got 2"):
        list_revisions(find_dialect(dialect), [make(tmp_path / "a"), make(tmp_path / "b")])


@pytest.mark.parametrize("extension", ["mjs", "mts", "cts"])
def test_modules_alone_are_migrations(extension: str, tmp_path: Path) -> None:
    """A directory with nothing else belongs to a Knex project that is configured to load such files."""
    assert list_revisions(KNEX, [make(tmp_path, f"1_a.{extension}")]) == ("1_a",)


def test_modules_beside_others_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Knex does not load them by default; if it is configured to, the newest would be missed in silence."""
    make(tmp_path, "1_a.js", "2_b.mjs")
    assert list_revisions(KNEX, [tmp_path]) == ("1_a",)
    assert "left out 2_b, since knex has to be configured to load .mjs" in capsys.readouterr().err
    assert list_revisions(KNEX, [tmp_path], ["js", ".mjs"]) == ("1_a", "2_b")
    assert capsys.readouterr().err == ""


def test_fewer_extensions_than_by_default(tmp_path: Path) -> None:
    """`loadExtensions: ['.js']`: TypeScript's sources beside what was made of them, and other files, do not count."""
    make(tmp_path, "1_a.js", "2_b.ts", "3_helper.coffee")
    assert list_revisions(KNEX, [tmp_path], [".js"]) == ("1_a",)
    with pytest.raises(ExternalFilesError, match="found none"):
        list_revisions(KNEX, [tmp_path], [".mjs"])


@pytest.mark.parametrize("dialect", [d.name for d in CONCRETE_DIALECTS if d.by_extensions is None])
def test_tools_with_fixed_extensions(dialect: str, tmp_path: Path) -> None:
    """The flag is refused for a tool whose extensions cannot be configured."""
    with pytest.raises(ExternalFilesError, match="--extension is for a tool that can be configured"):
        list_revisions(find_dialect(dialect), [tmp_path], [".sql"])
