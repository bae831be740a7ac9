"""The versions of Knex that docs/how-to/knex.md names: ledger, lock row, a killed run and its repair, a live owner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from testbed.tools import install
from tests.integration.test_exec_knex import GATE, Project
from tests.integration.test_interruption import until
from tests.pages import DOCS
from tests.stale_locks import FREED, LONG_AGO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

PINS = install.PINS / "knex_versions"
VERSIONS = {
    "knex-0.95": "0.95.15",
    "knex-1": "1.0.7",
    "knex-2": "2.5.1",
    "knex-3.1": "3.1.0",
    "knex-3.3": "3.3.0",
}
KNEX = ("node", "node_modules/knex/bin/cli.js", "migrate:latest")
LATEST = ("--dir", "core", "--dir", "shop", "--expect", "all", "--", *KNEX)
KNEXFILE = """module.exports = {
  client: "pg", connection: { connectionString: process.env.DATABASE_URL, application_name: "billing" },
  migrations: { directory: ["./core", "./shop"], tableName: "changes" },
};
"""
SLOW = """exports.config = { transaction: false };
exports.up = async (knex) => { await knex.raw("update effects set n = n * 2"); %s };
exports.down = (knex) => knex.raw("select 1");
"""


@pytest.fixture(params=VERSIONS)
def project(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Iterator[Project]:
    """An application with two directories of migrations, a table of another name, and an application name."""
    try:
        modules = install.npm(PINS, install.place(), lambda _: None)
    except install.InstallError as reason:
        pytest.skip(str(reason))
    project = Project(tmp_path, database)
    project.environment["LEDGERGATE_TABLE"] = "changes"
    (tmp_path / "node_modules").mkdir()
    for name, target in (("knex", request.param), ("pg", "pg")):
        (tmp_path / "node_modules" / name).symlink_to(modules / target)
    (tmp_path / "knexfile.js").write_text(KNEXFILE)
    for directory, name, sql in (
        ("core", "20240301000000_effects", "create table effects as select 100 as n"),
        ("shop", "20240201000000_one", "select 1"),
    ):
        (tmp_path / directory).mkdir()
        text = f"exports.up = (knex) => knex.raw(`{sql}`);\nexports.down = (knex) => knex.raw('select 1');\n"
        (tmp_path / directory / f"{name}.js").write_text(text)
    yield project
    project.close()


def slow(project: Project) -> None:
    """Add a migration outside a transaction, which doubles a number and then waits for the file `go`."""
    (project.home / "shop" / "20240401000000_late.js").write_text(SLOW % GATE)


async def test_a_killed_run_is_repaired(project: Project, connection: Connection) -> None:
    """Both directories are applied; a killed run leaves its lock row, which the next one frees."""
    done = await asyncio.to_thread(project, "exec", *LATEST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert await connection.fetchval("select count(*) from changes") == 2
    slow(project)
    run = project.start("exec", *LATEST)
    await until(connection, "select n = 200 from effects", 60)
    await until(connection, "select lock_version is not null from ledgergate_exec")
    run.kill()
    await asyncio.to_thread(run.communicate)
    await connection.execute(LONG_AGO)
    (project.home / "go").touch()
    done = await asyncio.to_thread(project, "exec", "--clear-stale-lock", *LATEST)
    assert (done.returncode, FREED in done.stdout) == (0, True), done.stdout + done.stderr
    assert await connection.fetchval("select is_locked from changes_lock") == 0
    assert await connection.fetchval("select count(*) from changes") == 3


async def test_a_live_owner_keeps_its_lock(project: Project, connection: Connection) -> None:
    """A Knex outside `exec`, between two statements without a transaction, keeps its lock; only it applies anything."""
    assert (await asyncio.to_thread(project, "exec", *LATEST)).returncode == 0
    slow(project)
    alone = project.plain(KNEX)
    await until(connection, "select n = 200 from effects", 60)
    refused = await asyncio.to_thread(project, "exec", "--clear-stale-lock", "--lock-timeout", "0.5", *LATEST)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "likely owners: " in refused.stderr
    waits = project.start("exec", "--clear-stale-lock", *LATEST)
    (project.home / "go").touch()
    assert await asyncio.to_thread(alone.wait, 60) == 0
    output, errors = await asyncio.to_thread(waits.communicate)
    assert (waits.returncode, "nothing to do" in output) == (0, True), output + errors
    assert await connection.fetchval("select n from effects") == 200
    assert await connection.fetchval("select count(*) from changes") == 3


def test_the_page_names_the_versions() -> None:
    """The list of docs/how-to/knex.md is that of these tests."""
    listed = " and ".join([", ".join(list(VERSIONS.values())[:-1]), list(VERSIONS.values())[-1]])
    assert f"Tested with Knex {listed}" in (DOCS / "how-to" / "knex.md").read_text(encoding="utf-8")
