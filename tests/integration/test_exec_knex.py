"""The real Knex under our lock: `disableTransactions: true` is where it fails by itself, and is left locked."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import asyncpg
import pytest

from testbed.tools import install
from tests.integration.conftest import Ledgergate
from tests.integration.test_interruption import SLEEP, SLEEPS, go_on, until
from tests.integration.test_wait import line
from tests.stale_locks import LONG_AGO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    Connection = asyncpg.Connection[asyncpg.Record]

KNEX = ("npx", "--no-install", "knex", "migrate:latest", "--disable-transactions")
"""The knexfile says so too, but knex's command line does not listen to it."""
PLAIN = ("node_modules/.bin/knex", *KNEX[3:])  # npx would outlive the test that is stopped
KNEXFILE = """module.exports = {
  client: "pg", connection: process.env.DATABASE_URL, migrations: { disableTransactions: true },
};
"""
MIGRATION = """exports.up = async (knex) => {{ {before} await knex.raw(`{sql}`); }};
exports.down = (knex) => knex.raw("select 1");
"""
GATE = """
const fs = require("fs");
while (!fs.existsSync("go")) await new Promise((resolve) => setTimeout(resolve, 20));
"""
"""Before a migration's statement: wait for the file `go`."""


class Project(Ledgergate):
    """An application that uses Knex; what it has started is gone when it is closed."""

    def __init__(self, home: Path, url: str) -> None:
        super().__init__(home, url)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a `ledgergate migrate` command."""
        self._started.append(super().start(*arguments, **environment))
        return self._started[-1]

    def close(self) -> None:
        """End whatever still runs."""
        for process in self._started:
            process.kill()
            process.communicate()

    def knex(self, name: str, sql: str, before: str = "") -> None:
        """Write a migration; it is the next one."""
        number = 20250101000000 + len(list(self.directory.iterdir()))
        (self.directory / f"{number}_{name}.js").write_text(MIGRATION.format(before=before, sql=sql))

    def plain(self, command: Sequence[str] = PLAIN) -> subprocess.Popen[str]:
        """Start Knex itself, without us."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=self.home, env=self.environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
        self._started.append(process)
        return process


@pytest.fixture
def project(tmp_path: Path, database: str) -> Iterator[Project]:
    """A project whose migrations leave one row in `effects` each."""
    try:
        modules = install.npm(install.PINS, install.place(), lambda _: None)
    except install.InstallError as reason:
        pytest.skip(str(reason))
    project = Project(tmp_path, database)
    # npm's own settings are this machine's, and a warning of them would be taken for Knex's.
    project.environment["npm_config_update_notifier"] = "false"
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "knexfile.js").write_text(KNEXFILE)
    (tmp_path / "package.json").write_text(
        '{"scripts": {"migrate:latest": "knex migrate:latest --disable-transactions"}}\n'
    )
    project.knex("effects", "create table effects (name text)")
    yield project
    project.close()


async def locked(connection: Connection) -> bool:
    """Return whether Knex's lock row is taken."""
    return bool(await connection.fetchval("select is_locked from knex_migrations_lock"))


async def effects(connection: Connection) -> list[str]:
    return [row["name"] for row in await connection.fetch("select name from effects order by name")]


async def test_eight_at_once(project: Project, connection: Connection) -> None:
    """Each migration runs once and all exit 0, on an empty database, where plain Knex fails."""
    for number in range(1, 5):
        project.knex(f"m{number}", "insert into effects values ('m' || (select count(*) from effects))")
    runs = [project.start("exec", "--", *KNEX) for _ in range(8)]
    outputs = [await asyncio.to_thread(run.communicate, timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0] * 8, outputs
    assert sum("Batch 1 run: 5 migrations" in output for output, _ in outputs) == 1
    assert await effects(connection) == ["m0", "m1", "m2", "m3"]
    assert len(await connection.fetch("select * from knex_migrations")) == 5
    assert not await locked(connection)


async def test_without_us_knex_fails(project: Project, connection: Connection) -> None:
    """Plain Knex fails where `exec` does not, or the test above would prove nothing: the others exit 1."""
    project.knex("slow", "insert into effects values ('slow')", before=GATE)
    first = project.plain()
    await until(connection, "select to_regclass('effects') is not null", 60)
    others = [project.plain() for _ in range(2)]
    outputs = [(await asyncio.to_thread(other.communicate, timeout=60))[0] for other in others]
    assert [other.returncode for other in others] == [1, 1]
    assert all("Migration table is already locked" in output for output in outputs)
    (project.home / "go").touch()
    assert "Batch 1 run: 2 migrations" in first.communicate(timeout=120)[0]


async def test_sigkill_in_the_middle(project: Project, connection: Connection) -> None:
    """It leaves is_locked = 1, at which Knex fails; --clear-stale-lock repairs it, and each effect is there once.

    The killed Knex has left a statement that goes on in the server: it is ended before the next run begins, or its
    effect would be there twice.
    """
    body = SLEEP.replace("end loop;", "end loop; insert into effects values ('slow');")
    project.knex("slow", body)
    project.knex("last", "insert into effects values ('last')")
    first = project.start("exec", "--", *KNEX)
    await until(connection, SLEEPS, 60)
    await until(connection, "select lock_version is not null from ledgergate_exec")
    first.kill()
    first.communicate()
    assert await locked(connection)
    left = await connection.fetchval(
        "select pid from pg_stat_activity where query ~ 'go [o]n' and pid <> pg_backend_pid()"
    )

    stuck = await asyncio.to_thread(project, "exec", "--", *KNEX)
    assert stuck.returncode == 1
    taken = 'the row lock of knex ("public"."knex_migrations_lock") is taken, but no run under our lock holds it'
    assert taken in stuck.stdout
    assert "Migration table is already locked" in stuck.stdout + stuck.stderr
    assert not await connection.fetchval("select count(*) from pg_stat_activity where pid = $1", left)

    repaired = project.start("exec", "--clear-stale-lock", "--", "npm", "run", "migrate:latest")
    line(repaired.stdout, "whose command may live for another")
    await connection.execute(LONG_AGO)
    line(repaired.stdout, "freed the row lock: its owner, a run of `exec`, is dead")
    await go_on(connection)
    output, errors = await asyncio.to_thread(repaired.communicate, timeout=60)
    assert repaired.returncode == 0, output + errors
    assert "done: the ledger is at 20250101000002_last" in output
    assert await effects(connection) == ["last", "slow"]
    assert not await locked(connection)


async def test_a_live_owner_keeps_its_lock(project: Project, connection: Connection, database: str) -> None:
    """A Knex that runs without us is waited for and in the end left alone: exit 4 says how to go on by hand."""
    project.knex("slow", "insert into effects values ('slow')", before=GATE)
    project.knex("last", "insert into effects values ('last')")
    alone = project.plain()
    await until(connection, "select to_regclass('effects') is not null", 60)
    await connection.close()
    refused = await asyncio.to_thread(project, "exec", "--clear-stale-lock", "--lock-timeout", "0.5", "--", *KNEX)
    assert refused.returncode == 4
    assert "the row lock may have an owner who is alive: waited in vain for its owner to free it" in refused.stderr
    assert "If it is dead, `npx knex migrate:unlock` (in SQL: update " in refused.stderr
    waits = project.start("exec", "--clear-stale-lock", "--", *KNEX)
    line(waits.stdout, "waiting for its owner to free it (no run of `exec` has left a mark")
    (project.home / "go").touch()
    assert "Batch 1 run: 3 migrations" in alone.communicate(timeout=120)[0]
    output, _ = await asyncio.to_thread(waits.communicate, timeout=60)
    assert waits.returncode == 0, output
    connection = await asyncpg.connect(database)
    assert await effects(connection) == ["last", "slow"]
    await connection.close()


async def test_an_older_image_finds_nothing_to_do(project: Project) -> None:
    """`kubectl rollout undo`: plain Knex calls the directory corrupt; with --expect it is not even run."""
    project.knex("newer", "insert into effects values ('newer')")
    assert (await asyncio.to_thread(project, "exec", "--", *KNEX)).returncode == 0
    next(project.directory.glob("*_newer.js")).unlink()
    plain = project.plain()
    assert "The migration directory is corrupt" in plain.communicate(timeout=120)[0]
    assert plain.returncode == 1
    done = project("exec", "--expect", "20250101000000_effects", "--", *KNEX)
    assert done.returncode == 0
    assert done.stdout == "nothing to do: the ledger is at 20250101000001_newer (public.knex_migrations)\n"
