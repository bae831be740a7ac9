"""The runner's half of the demo, which needs a PostgreSQL and no cluster: twenty runs at once, one of them killed."""

import asyncio
import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from demo.stage import HERE, LEDGERGATE
from demo.timeline import Timeline
from testbed.postgres import Postgres
from testbed.waiting import until

RUNS = 20
SLOW = "20260304110000_total_of_orders"
SQL = """-- migrate:up
create table order_totals as select count(*) from orders, pg_sleep(3);

-- migrate:down
drop table order_totals;
"""
BUSY = "select application_name from pg_stat_activity where state = 'active' and query like '%, pg\\_sleep(3)%'"
"""Finds the run in the slow migration: `ledgergate POD REVISION`."""
LIMIT = 60.0


def show(timeline: Timeline) -> int:
    """Start the runs on a database of their own, kill the one that migrates, and show the ledger.

    Returns:
        How many of the others exited 0.
    """
    timeline.heading("Twenty replicas migrate at once, and the one that does the work is killed")
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        directory = Path(stack.enter_context(TemporaryDirectory())) / "migrations"
        shutil.copytree(HERE / "migrations", directory)
        (directory / f"{SLOW}.sql").write_text(SQL)
        url = postgres.create_database()
        pending = len(list(directory.iterdir()))
        timeline.event("started", f"PostgreSQL; {RUNS} times `ledgergate migrate up`, {pending} migrations pending")
        runs = {f"replica-{number}": _start("up", directory, url, f"replica-{number}") for number in range(RUNS)}
        for process in runs.values():
            stack.callback(process.kill)
        busy = until("a run that migrates", lambda: _busy(url), timeout=LIMIT)
        killed = busy.split()[1]
        runs[killed].kill()
        timeline.event("killed", f"{killed}, which has the lock, by SIGKILL, in the middle of {SLOW}")
        for process in runs.values():
            process.communicate(timeout=LIMIT)
        succeeded = [process.returncode for process in runs.values()].count(0)
        timeline.event("ended", f"{succeeded} of the other {RUNS - 1} exited 0; each migration is applied, once")
        timeline.show("ledgergate migrate status", _ledgergate("status", directory, url))
        return succeeded


def _start(command: str, directory: Path, url: str, name: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "DATABASE_URL": url, "POD_NAME": name}
    return subprocess.Popen(
        [LEDGERGATE, "migrate", command, "--dir", directory],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _ledgergate(command: str, directory: Path, url: str) -> str:
    return _start(command, directory, url).communicate(timeout=LIMIT)[0]


def _busy(url: str) -> str:
    """Return the name of the session that runs the slow migration; empty while none does."""
    return asyncio.run(_fetch(url, f"{BUSY} and pid <> pg_backend_pid()")) or ""


async def _fetch(url: str, query: str) -> str | None:
    connection = await asyncpg.connect(url)
    try:
        found: str | None = await connection.fetchval(query)
    finally:
        await connection.close()
    return found
