"""Runs of `exec` over a program that takes a tool's lock row, and owners of that row outside `exec`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from tests.integration.test_child import noted
from tests.integration.test_exec import KNEX
from tests.integration.test_foreign_views import KNEX_LOCK
from tests.integration.test_rowlock import LIQUIBASE, YOYO

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from tests.integration.conftest import Ledgergate

    Connection = asyncpg.Connection[asyncpg.Record]

TOOL = """
import asyncio, os, sys, asyncpg
async def main():
    url, name = os.environ.get("TOOL_URL", os.environ["DATABASE_URL"]), os.environ.get("TOOL_NAME", "")
    settings = {"application_name": name or os.environ.get("PGAPPNAME", "")}
    connection = await asyncpg.connect(url, server_settings=settings, statement_cache_size=0)
    for step in sys.argv[1:]:
        if step != "wait":
            await connection.execute(step)
            continue
        open("waits", "w").write("1\\n")
        while not os.path.exists("go"):
            await asyncio.sleep(0.02)
asyncio.run(main())
"""


class Lock(NamedTuple):
    """A tool's lock row."""

    dialect: str
    setup: str
    take: str
    free: str
    taken: str


FREE_KNEX = ("insert into knex_migrations_lock (is_locked) values (0)",)
LOCKS = [
    Lock(
        "knex",
        "; ".join([KNEX, KNEX_LOCK, *FREE_KNEX]),
        "update knex_migrations_lock set is_locked = 1 where is_locked = 0",
        "update knex_migrations_lock set is_locked = 0",
        "select coalesce((select is_locked = 1 from knex_migrations_lock), false)",
    ),
    Lock(
        "liquibase",
        LIQUIBASE.replace("true", "false"),
        "update databasechangeloglock set locked = true, lockedby = 'us' where id = 1 and not locked",
        "update databasechangeloglock set locked = false",
        "select locked from databasechangeloglock",
    ),
    Lock(
        "yoyo",
        YOYO.partition("insert")[0],
        "insert into yoyo_lock (ctime, pid) values (now(), 17)",
        "delete from yoyo_lock",
        "select exists (select from yoyo_lock)",
    ),
]
KNEX_ROW = LOCKS[0]
LONG_AGO = "update ledgergate_exec set seen_at = seen_at - interval '1 minute'"
"""Make it look as if the run was killed a minute ago: by then its command is dead."""
FREED = "freed the row lock: its owner, a run of `exec`, is dead"


class Runs:
    """Runs of `exec` over the tool."""

    def __init__(self, ledgergate: Ledgergate, lock: Lock) -> None:
        self.ledgergate = ledgergate
        self.lock = lock
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *steps: str, **environment: str) -> subprocess.Popen[str]:
        """Start `exec` over the tool, which takes these steps; :meth:`waits` returns once it has come to `wait`."""
        (self.ledgergate.home / "waits").unlink(missing_ok=True)
        command = (sys.executable, "-c", TOOL, *steps)
        run = self.ledgergate.start("exec", "--dialect", self.lock.dialect, "--", *command, **environment)
        self._started.append(run)
        return run

    async def waits(self) -> None:
        """Wait until the tool has come to its step `wait`."""
        await asyncio.to_thread(noted, self.ledgergate.home / "waits")

    async def kill(self, run: subprocess.Popen[str], connection: Connection) -> None:
        """Kill the run, which takes its command with it, as if a minute ago."""
        run.kill()
        await asyncio.to_thread(run.communicate)
        await connection.execute(LONG_AGO)

    async def clear(self, *, limit: float = 0.3) -> subprocess.CompletedProcess[str]:
        """Run with --clear-stale-lock a command that only succeeds."""
        return await asyncio.to_thread(
            self.ledgergate,
            "exec",
            "--dialect",
            self.lock.dialect,
            "--clear-stale-lock",
            "--lock-timeout",
            str(limit),
            "--",
            "echo",
            "the command",
        )

    async def refuses(self, connection: Connection) -> str:
        """Check that the row stays taken and the command is not run; return the message."""
        assert await connection.fetchval(self.lock.taken)
        done = await self.clear()
        assert (done.returncode, "the command" in done.stdout) == (4, False), done.stdout + done.stderr
        assert await connection.fetchval(self.lock.taken)
        return done.stderr

    async def frees(self, connection: Connection) -> None:
        """Check that the taken row is freed, and the command run."""
        assert await connection.fetchval(self.lock.taken)
        done = await self.clear(limit=20)
        assert (done.returncode, FREED in done.stdout) == (0, True), done.stdout + done.stderr
        assert not await connection.fetchval(self.lock.taken)
        assert "the command" in done.stdout
        assert await connection.fetchval("select count(*) from ledgergate_exec") == 0

    def close(self) -> None:
        """End what still runs."""
        for run in self._started:
            run.kill()
            run.communicate()


@asynccontextmanager
async def owner(url: str, *statements: str, name: str = "") -> AsyncIterator[Connection]:
    """A session outside `exec` that has run the statements."""
    session = await asyncpg.connect(url, server_settings={"application_name": name}, statement_cache_size=0)
    try:
        for statement in statements:
            await session.execute(statement)
        yield session
    finally:
        await session.close()
