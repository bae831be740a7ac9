"""Reports of the sessions that a running migration waits for.

They come from a second connection, since the migration's own is busy. It is opened only for a migration that takes
long.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from migrations.postgres.connection import connect
from migrations.postgres.errors import DatabaseError
from migrations.sql.statements import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from migrations.postgres.address import Address
    from migrations.runner.reporter import Reporter

_SQL = load("blockers")
_LONGEST_INTERVAL = 1.0  # seconds between two queries
_CONNECT_TIMEOUT = 3.0  # seconds


@asynccontextmanager
async def report_blockers(
    address: Address, pid: int, lock_timeout: float, running: Callable[[], str | None], reporter: Reporter
) -> AsyncIterator[None]:
    """Report, while the block runs, each session that holds a lock for which the backend waits.

    Args:
        address: The database.
        pid: The backend that runs the migrations.
        lock_timeout: Seconds after which that backend gives up; 0 for never. The interval between two queries is a
            third of it, so that two are made before.
        running: Returns the revision that runs now; None between two migrations.
        reporter: Reports once for each revision, blocking session and locked object.
    """
    interval = min(lock_timeout / 3 or _LONGEST_INTERVAL, _LONGEST_INTERVAL)
    task = asyncio.create_task(_poll_blockers(address, pid, interval, running, reporter))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _poll_blockers(
    address: Address, pid: int, interval: float, running: Callable[[], str | None], reporter: Reporter
) -> None:
    with suppress(DatabaseError):  # failing to find the blocker must not fail the migration
        await _wait_for_long_migration(interval, running)
        session = await connect(address, timeout=_CONNECT_TIMEOUT, application_name="ledgergate blockers")
        reported: set[object] = set()
        try:
            while True:
                for row in await session.fetch(_SQL["blockers"], pid):
                    blocker = (running(), row["target"], row["pid"])
                    if blocker not in reported:
                        reported.add(blocker)
                        _report(row, running(), reporter)
                await asyncio.sleep(interval)
        finally:
            session.terminate()


async def _wait_for_long_migration(interval: float, running: Callable[[], str | None]) -> None:
    """Return when the same migration still runs after an interval."""
    last = None
    while True:
        now = running()
        if now is not None and now == last:
            return
        last = now
        await asyncio.sleep(interval)


def _report(row: Mapping[str, object], revision: str | None, reporter: Reporter) -> None:
    holder = f"pid {row['pid']}" + (f", {row['application_name']}" if row["application_name"] else "")
    duration = f", in a transaction for {row['seconds']:.0f} s" if row["seconds"] is not None else ""
    state = f", {row['state']}" if row["state"] else ""
    query = " ".join(str(row["query"] or "").split())
    text = f"{revision} waits for a lock on {row['target']} ({row['mode']}), held by {holder}{duration}{state}"
    text += f": {query}" if query else ""
    reporter.info(
        "blocked",
        text,
        revision=revision,
        target=row["target"],
        mode=row["mode"],
        pid=row["pid"],
        application=row["application_name"],
    )
