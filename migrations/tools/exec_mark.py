"""The mark that `exec` leaves in the database while its command runs.

A row that says "locked" does not show whose it is, and a list of sessions cannot prove that an owner is dead: a live
owner may be between two statements, behind a pooler, or have any name. So a run writes down that it runs, which version
of the tool's lock row its command has written (see `lock_watch`), and which sessions the command has opened. The mark
is taken away once the command has ended. What a killed run leaves is the proof for the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.postgres.errors import PermissionMissing, StatementFailed
from migrations.sql.statements import bind, load, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session

_SQL = load("exec_mark")
TABLE = "ledgergate_exec"
"""Name of the table of marks, in the schema of the ledger."""
DEATH_PERIOD = 25.0
"""Seconds after which the command of a run that shows no sign of life is dead.

`exec` ends its command when the session that holds the lock is lost: at the latest 21 s after the last answered check,
see `HEARTBEAT_TIMEOUT`. It writes down at least every 3 s that it lives. Together these are 24 s."""


@dataclass(frozen=True, slots=True)
class ExecMark:
    """What a run of `exec` has written down.

    Attributes:
        run_by: Its pod or host.
        began_at: When it began to run its command; the tool's lock row was free then.
        ended: Whether its command has ended, and left the lock row behind.
        lock_version: The version of the lock row that its command has written; None while it is not known to have.
        silent_for: Seconds since it last showed that it lives.
    """

    run_by: str
    began_at: datetime
    ended: bool
    lock_version: str | None
    silent_for: float

    def __str__(self) -> str:
        return f"the run of {self.run_by} that began at {self.began_at:%Y-%m-%d %H:%M:%S%z}"


def why_unproven(mark: ExecMark | None, version: str) -> str | None:
    """Return why it is not proven that a run of `exec` took the lock row; None where it is.

    Args:
        mark: What the last run has left; None where it has left nothing.
        version: The version of the row, which is taken.
    """
    if mark is None:
        return "no run of `exec` has left a mark that can be read, so the tool was started in another way"
    if mark.lock_version is None:
        return f"{mark} has left a mark, but was not seen to take the row"
    if mark.lock_version != version:
        return f"{mark} has left a mark, but the row was written again since"
    return None


class MarkTable:
    """The mark of one ledger. Every method that sends something raises `DatabaseError`."""

    def __init__(self, session: Session, location: Location) -> None:
        """Create the access to the mark of a ledger with a lock row, through the session that holds our lock of it."""
        self._session = session
        self._relation = quoted(location.table.schema, TABLE)
        self._ledger = location.table.name
        self.lock_relation = location.dialect.lock_relation(location.table) or ""
        """The quoted, qualified name of the lock's table."""
        self._lock_statement = location.dialect.read_lock_statement(location.table) or ""

    def __str__(self) -> str:
        return self._relation

    async def lock_row_version(self) -> str | None:
        """Return the version of the lock row while it is taken; None while it is free, or where it has no table."""
        if not await self._session.table_exists(self.lock_relation):
            return None
        version = await self._session.fetch_value(bind(_SQL["lock_row_version"], lock=self._lock_statement))
        return None if version is None else str(version)

    async def read(self) -> ExecMark | None:
        """Return the mark of the last run; None where there is none, or our role may not read it."""
        if not await self._session.table_exists(self._relation):
            return None
        try:
            rows = await self._session.fetch(self._sql("read"), self._ledger)
        except PermissionMissing:
            return None
        return ExecMark(**rows[0]) if rows else None

    async def begin(self, run_by: str) -> datetime:
        """Write the mark of a run that begins while the lock row is free, and return when, by the server's clock.

        Raises:
            StatementFailed: The role may not create the table, or not write it.
        """
        if not await self._session.table_exists(self._relation):
            try:
                await self._session.execute(self._sql("create"))
            except StatementFailed:  # the run of another ledger in the same schema may have created it meanwhile
                if not await self._session.table_exists(self._relation):
                    raise
        began_at: datetime = await self._session.fetch_value(self._sql("begin"), self._ledger, run_by)
        return began_at

    async def note(self, lock_version: str | None, sessions: Mapping[int, datetime]) -> None:
        """Write down that the run lives, the version of the lock row that its command wrote, and its sessions."""
        starts = list(sessions.values())
        await self._session.execute(self._sql("note"), self._ledger, lock_version, list(sessions), starts)

    async def end(self) -> None:
        """Write down that the command has ended and has left the lock row behind."""
        await self._session.execute(self._sql("end"), self._ledger)

    async def remove(self) -> None:
        """Take the mark away."""
        await self._session.execute(self._sql("remove"), self._ledger)

    async def end_sessions(self) -> Sequence[str]:
        """Ask the server to end the sessions that the mark names, and describe those that are still there."""
        if await self.read() is None:
            return ()
        rows = await self._session.fetch(self._sql("end_sessions"), self._ledger)
        return [f"the end of backend {row['pid']}, which a killed run has left" for row in rows]

    async def find_unseen_sessions(self) -> Sequence[str]:
        """Describe the sessions that the command may have opened after the run last looked."""
        rows = await self._session.fetch(self._sql("unseen_sessions"), self._ledger, DEATH_PERIOD)
        return [f"the end of backend {row['pid']} ({row['name']}), which a killed run may have left" for row in rows]

    def _sql(self, block: str) -> str:
        return bind(_SQL[block], mark=self._relation)
