"""The tool's lock row before its command runs: who has it, and whether it is proven that its owner is dead."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from migrations.reader.activity import read_row_lock
from migrations.runner.wait import REPORT_INTERVAL
from migrations.tools import lock_table
from migrations.tools.exec_mark import DEATH_PERIOD, MarkTable, why_unproven

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter

_POLL_INTERVAL = 0.2  # seconds between two queries for what is waited for
_MAX_OWNERS = 5  # sessions that a message names
_OWNERLESS_LIMIT = 30.0
"""Seconds to wait for an owner of which no session can be seen: most likely it is dead, but nothing proves it."""


async def wait_until_empty(
    find: Callable[[], Awaitable[Sequence[object]]],
    reporter: Reporter,
    *,
    limit: float,
    is_vain: Callable[[], bool] = lambda: False,
) -> Sequence[object]:
    """Call `find` until it finds nothing; return what is left when `limit` seconds have passed, or the wait is vain."""
    clock = asyncio.get_running_loop().time
    began, reported = clock(), -REPORT_INTERVAL
    while found := await find():
        waited = clock() - began
        if waited >= limit or is_vain():
            return found
        if waited - reported >= REPORT_INTERVAL:
            reported = waited
            reporter.info("waiting_for_session", f"waiting for {found[0]}; {waited:.0f} s so far")
        await asyncio.sleep(_POLL_INTERVAL)
    return ()


class RowLockKeeper:
    """The lock row of a tool, seen by the session that holds our lock of the ledger."""

    def __init__(self, session: Session, location: Location, reporter: Reporter) -> None:
        """Create the access to the lock row of the ledger's tool, which must have one."""
        self.marks = MarkTable(session, location)
        self._session = session
        self._location = location
        self._reporter = reporter
        self._freed = False
        self._ownerless_since: float | None = None

    @property
    def by_hand(self) -> str:
        """The commands that free the row, whichever session has it."""
        location, table = self._location, self._location.dialect.row_lock
        statement = location.dialect.unlock_statement(location.table)
        return f"`{table.unlock_command}` (in SQL: {statement})" if table else "the tool itself"

    async def report(self, *, clear: bool) -> bool:
        """Report the row where it is taken, and return whether it is.

        Args:
            clear: Whether it is to be freed where its owner is proven to be dead.
        """
        row_lock = await read_row_lock(self._session, self._location)
        if row_lock is None:
            return False
        holder = f" by {row_lock.holder}" if row_lock.holder else ""
        since = f" since {row_lock.since:%Y-%m-%d %H:%M:%S%z}" if row_lock.since else ""
        name, table = self._location.dialect.name, self.marks.lock_relation
        text = f"the row lock of {name} ({table}) is taken{holder}{since}, but no run under our lock holds it"
        if not clear:
            text += f"; --clear-stale-lock frees it where a run of `exec` has left it, {self.by_hand} in any case"
        self._reporter.info("row_lock_taken", text, holder=row_lock.holder)
        return True

    async def settle(self, end_orphans: Callable[[], Awaitable[Sequence[str]]], *, limit: float) -> str | None:
        """Free the row where its owner is proven to be dead, else wait until its owner frees it.

        Args:
            end_orphans: Ends the sessions that a run's command has left, and returns those that are still there.
            limit: Seconds to wait.

        Returns:
            Why it is still taken, and what to do; None once it is free.

        Raises:
            DatabaseError: The connection was lost, or a statement failed.
        """
        self._freed, self._ownerless_since = False, None
        left = await wait_until_empty(
            lambda: self._find_obstacles(end_orphans), self._reporter, limit=limit, is_vain=self._is_vain
        )
        if left:
            waited = f"waited in vain for {'; '.join(map(str, left))}"
            return f"the row lock may have an owner who is alive: {waited}"
        if self._freed:
            self._reporter.info("row_lock_freed", "freed the row lock: its owner, a run of `exec`, is dead")
        return None

    def _is_vain(self) -> bool:
        """Return whether no session has been seen that may be the owner for `_OWNERLESS_LIMIT`."""
        since = self._ownerless_since
        return since is not None and asyncio.get_running_loop().time() - since >= _OWNERLESS_LIMIT

    async def _find_obstacles(self, end_orphans: Callable[[], Awaitable[Sequence[str]]]) -> Sequence[str]:
        """Free the row where nothing keeps it from being freed; else return what does, worded as what is waited for."""
        version = await self.marks.lock_row_version()
        if version is None:
            return ()
        mark = await self.marks.read()
        reason = why_unproven(mark, version)
        if mark is None or reason is not None:
            return [await self._describe_unproven(reason or "")]
        alive = 0.0 if mark.ended else DEATH_PERIOD - mark.silent_for
        if alive > 0:
            return [f"the end of {mark}, whose command may live for another {math.ceil(alive)} s"]
        # Orphans were ended before, but a command that lived on may have opened other sessions since.
        if left := [*await end_orphans(), *await self.marks.find_unseen_sessions()]:
            return left
        self._freed = await lock_table.free_row_lock(self._session, self._location, self.marks, version)
        return () if self._freed else [f"a session that has locked {self.marks.lock_relation}"]

    async def _describe_unproven(self, reason: str) -> str:
        owners = await lock_table.find_owners(self._session, self._location)
        if not owners:
            owners = await lock_table.find_owners(self._session, self._location, unlikely=True)
        more = f"; and {len(owners) - _MAX_OWNERS} more" if len(owners) > _MAX_OWNERS else ""
        likely = f"{'; '.join(map(str, owners[:_MAX_OWNERS]))}{more}" if owners else "no session that can be seen"
        clock = asyncio.get_running_loop().time
        self._ownerless_since = None if owners else self._ownerless_since or clock()
        return f"its owner to free it ({reason}; likely owners: {likely}). If it is dead, {self.by_hand} frees it"
