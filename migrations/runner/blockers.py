"""Looks out for whom a running migration waits, over a connection of its own that only a long one needs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from migrations.postgres.errors import DatabaseError
from migrations.postgres.session import connect
from migrations.sql.statements import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from migrations.postgres.address import Address
    from migrations.runner.section import InfoCallback

_SQL = load("advisory_lock")
_SLOWEST = 1.0  # seconds between two looks
_TIMEOUT = 3.0  # seconds to connect


@asynccontextmanager
async def report_blockers(
    address: Address, pid: int, lock_timeout: float, running: Callable[[], str | None], info: InfoCallback
) -> AsyncIterator[None]:
    """Tell, while the block runs, who holds the lock that the backend waits for.

    Args:
        address: The database.
        pid: The backend.
        lock_timeout: Seconds after which the backend gives up; two looks come before that. 0 for never.
        running: Gives the revision that runs now, for the message.
        say: Told once for each blocker and lock.
    """
    pause = min(lock_timeout / 3 or _SLOWEST, _SLOWEST)
    task = asyncio.create_task(_look(address, pid, pause, running, info))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _look(
    address: Address, pid: int, pause: float, running: Callable[[], str | None], info: InfoCallback
) -> None:
    """Look from time to time; who blocks is worth a message, and that nobody could look is not worth a failure."""
    with suppress(DatabaseError):
        await _until_long(pause, running)
        session = await connect(address, timeout=_TIMEOUT, application_name="ledgergate lookout")
        said: set[object] = set()
        try:
            while True:
                for row in await session.rows(_SQL["blockers"], pid):
                    sight = (running(), row["target"], row["pid"])
                    if sight not in said:
                        said.add(sight)
                        _tell(row, running(), info)
                await asyncio.sleep(pause)
        finally:
            session.terminate()


async def _until_long(pause: float, running: Callable[[], str | None]) -> None:
    """Return once the same migration runs at two looks in a row."""
    last = None
    while True:
        now = running()
        if now is not None and now == last:
            return
        last = now
        await asyncio.sleep(pause)


def _tell(row: Mapping[str, object], revision: str | None, info: InfoCallback) -> None:
    who = f"pid {row['pid']}" + (f", {row['application_name']}" if row["application_name"] else "")
    since = f", in a transaction for {row['seconds']:.0f} s" if row["seconds"] is not None else ""
    state = f", {row['state']}" if row["state"] else ""
    query = " ".join(str(row["query"] or "").split())
    text = f"{revision} waits for a lock on {row['target']} ({row['mode']}), held by {who}{since}{state}"
    text += f": {query}" if query else ""
    info(
        "blocked",
        text,
        revision=revision,
        target=row["target"],
        mode=row["mode"],
        pid=row["pid"],
        application=row["application_name"],
    )
