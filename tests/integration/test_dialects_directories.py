"""Directories full of what confuses a listing: what a tool applies of one is what is declared of it.

Every tool that can be had is run. Ecto, Atlas, pgroll and Liquibase cannot: tests/unit/test_files_directories.py has
their rules by their sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrations.core.drift import RevisionStatus, compare
from migrations.core.ledger import History, Position
from migrations.core.migration import Migration, SectionBody
from migrations.core.revision import canonical
from migrations.dialects.catalogue import find_dialect
from migrations.files.external import ExternalFilesError
from testbed.tools import driver
from testbed.tools.driver import Tool, javascript, python
from testbed.tools.reading import snapshot
from testbed.tools.start import start
from tests.nasty_directories import NASTY, REFUSED

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

pytestmark = pytest.mark.timeout(1500)  # the first test installs the tools

JAVASCRIPT = ("knex", "umzug", "node-pg-migrate", "typeorm", "drizzle", "prisma")
PYTHON = ("alembic", "django", "yoyo")


def fill(project: Path, files: dict[str, str]) -> Path:
    """Write a project; return the directory that a user would name."""
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)
    return project if any("/migrations/" in name for name in files) else project / "migrations"


def run(name: str, project: Path, url: str) -> AbstractContextManager[Tool]:
    """Start a tool in its project."""
    if name in JAVASCRIPT:
        return javascript(name, project, url)
    return python(name, project, url) if name in PYTHON else start(name, project, url)


@pytest.mark.parametrize("name", NASTY)
async def test_what_a_tool_applies_is_what_is_declared(name: str, tmp_path: Path, database: str) -> None:
    """The tool's ledger has every listed migration and no other, and is complete for what an image declares.

    The status then calls each one applied.
    """
    directory = fill(tmp_path, NASTY[name])
    tool = find_dialect(name)
    listed = tool.directory(directory)
    declared = tool.declare(listed)
    with run(name, tmp_path, database) as real:
        answer = real("all")
    assert answer.error is None
    ledger = await snapshot(name, database)
    key = tool.versioning.key
    if name in {"alembic", "golang-migrate"}:  # which record the newest alone
        assert set(ledger.applied) == {key(listed[-1])} == {declared.name}
    else:
        recorded = {key(record.revision) for record in ledger.records if not record.baseline}
        assert sorted(recorded) == sorted({key(canonical(name)) for name in listed})
    assert ledger.is_complete_for(declared)
    # What is declared of several applications of Django are the newest of each, of which one ran last.
    expected = {Position.AT_HEAD, Position.AHEAD} if name == "django" else {Position.AT_HEAD}
    assert ledger.position_for(declared.name) in expected
    if ledger.history not in {History.HEADS, History.NUMBER}:
        names = list(map(canonical, listed))
        migrations = [Migration(name, directory, "", SectionBody(None)) for name in names]
        rows = compare(migrations, ledger, is_elsewhere=tool.find_elsewhere(names))
        assert [row for row in rows if row.status is not RevisionStatus.APPLIED] == []


@pytest.mark.parametrize(
    ("name", "files"),
    [(name, files) for name, projects in REFUSED.items() for files in projects],
    ids=[f"{name}-{number}" for name, projects in REFUSED.items() for number in range(len(projects))],
)
async def test_what_a_tool_refuses_is_refused(name: str, files: dict[str, str], tmp_path: Path, database: str) -> None:
    """A directory at which the tool stops declares nothing."""
    directory = fill(tmp_path, files)
    try:
        with run(name, tmp_path, database) as real:
            error = real("all").error
    except RuntimeError as ended:  # it lists nothing, either
        error = str(ended)
    assert error
    with pytest.raises(ExternalFilesError):
        find_dialect(name).directory(directory)


def test_every_tool_that_can_be_had_is_run() -> None:
    """The tools of the drivers, and those that are started by name."""
    assert {*JAVASCRIPT, *PYTHON} <= NASTY.keys()
    assert driver.HERE.is_dir()
