"""Watching a command that may take its tool's lock row: is it the command that takes it?

PostgreSQL does not record which session wrote a row. So while the row is free, our session locks the lock's table
against writes: that is the guard. A session that wants the row has to wait, and pg_locks shows which session it is. Our
session lets it through at once, and guards the table again as soon as it has written. If only the command's sessions
waited, what is written then is the command's.

A table that the command itself creates cannot be guarded. Then the row counts as the command's if no other session came
while it ran, and none of the earlier sessions can be the tool's.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from migrations.postgres.errors import ConnectionLost, PermissionMissing, StatementFailed
from migrations.sql.statements import bind, load
from migrations.tools import lock_table
from migrations.tools.child_sessions import ChildSessions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session
    from migrations.tools.child_sessions import SeenSession
    from migrations.tools.exec_mark import MarkTable

_SQL = load("exec_mark")
_NOTE_INTERVAL = 3.0  # seconds between two signs of life in the mark
_MAX_TAKING = 2.0
"""Seconds that the transaction in which a tool takes its row lasts at most; Knex may migrate in the same one."""


class _Row(Enum):
    """What is known of the lock row."""

    TABLELESS = "its table did not exist when the command began"
    GUARDED = "it is free, and our transaction keeps it so"
    FOLLOWED = "the command was let through, and has not committed what it has written"
    OWNED = "the command has it"
    UNKNOWN = "another may have it, or may have taken it while nothing kept it"


_INTERVALS = {_Row.TABLELESS: 0.02, _Row.GUARDED: 0.05, _Row.FOLLOWED: 0.005, _Row.OWNED: 0.5, _Row.UNKNOWN: 0.5}
"""Seconds until the next look. Short where a session may be kept waiting, or the row may be the command's at once."""


class LockWatch:
    """The watch over one command, in the session that holds our lock.

    `begin` before the command starts, `look` again and again while it runs, `finish` after it has ended.
    """

    def __init__(
        self, session: Session, location: Location, marks: MarkTable, session_mark: str, clock: Callable[[], float]
    ) -> None:
        """Create the watch.

        Args:
            session: The session that holds our lock; nothing else may use it meanwhile.
            location: The ledger, whose tool has a lock row.
            marks: Where to write down what is seen.
            session_mark: Beginning of the names of the command's sessions, where the tool does not set another.
            clock: A monotonic clock, in seconds.
        """
        self._session = session
        self._location = location
        self._marks = marks
        self._session_mark = session_mark
        self._clock = clock
        self._children: ChildSessions | None = None
        self._row = _Row.UNKNOWN
        self._version: str | None = None
        self._followed_at = self._noted_at = 0.0
        self._noted: object = None
        self._is_blind = False  # a right is missing; trying again and again would fill the server's log

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        return _INTERVALS[self._row]

    async def begin(self, run_by: str) -> None:
        """Write the mark, and keep the row free until the command wants it.

        Raises:
            StatementFailed: No mark can be left; the command may run, but its lock row is never freed for it.
            DatabaseError: The connection was lost.
        """
        relation = self._marks.lock_relation
        began_at = await self._marks.begin(run_by)
        self._children = ChildSessions(self._session, began_at, self._session_mark, relation)
        self._noted_at = self._clock()
        if not await self._session.table_exists(relation):
            self._row = _Row.TABLELESS
        await self._guard()

    async def look(self) -> None:
        """Look once at sessions and row, and write down what is new.

        Raises:
            DatabaseError: The connection was lost.
        """
        if self._children is None or self._is_blind:
            return
        try:
            sessions = () if self._row is _Row.FOLLOWED else await self._children.fetch()
            if self._row is _Row.GUARDED:
                await self._let_through([seen for seen in sessions if seen.waits])
                return  # what is written now becomes visible only when the guard's transaction ends
            await self._look_at_row(self._children, sessions)
            if not self._session.in_transaction:
                await self._note()
        except StatementFailed as error:  # a right was taken away, a table dropped: nothing is proven any more
            await self._end_transaction()
            self._row, self._version = _Row.UNKNOWN, None
            self._is_blind = isinstance(error, PermissionMissing)

    async def finish(self) -> None:
        """Take the mark away; keep it where the command has left the row behind, which the next run then may free.

        Raises:
            DatabaseError: The connection was lost, or a statement failed.
        """
        if self._children is None:
            return
        await self._end_transaction()
        if self._version is not None and await self._marks.lock_row_version() == self._version:
            await self._marks.end()
        else:
            await self._marks.remove()

    async def _let_through(self, waiting: Sequence[SeenSession]) -> None:
        """Let the waiting sessions write; if they are the command's, read the lock row before any other writes it."""
        if not waiting:
            return
        await self._note()
        self._row = _Row.UNKNOWN
        own = all(one.is_own for one in waiting)
        # A session in a transaction keeps the table locked until it commits, so it cannot be guarded again at once.
        if not own or any(one.in_transaction for one in waiting):
            await self._session.execute("commit")
            if own:
                self._row, self._followed_at = _Row.FOLLOWED, self._clock()
            return
        await self._session.execute(bind(_SQL["let_through"], lock=self._marks.lock_relation))
        self._version = await self._marks.lock_row_version()
        if self._version is None:
            self._row = _Row.GUARDED
            return
        self._row = _Row.OWNED
        await self._note()
        await self._session.execute("commit")

    async def _look_at_row(self, children: ChildSessions, sessions: Sequence[SeenSession]) -> None:
        version = await self._marks.lock_row_version()
        match self._row:
            case _Row.TABLELESS if version is not None:
                own = await self._is_alone(children, sessions)
                self._row, self._version = (_Row.OWNED, version) if own else (_Row.UNKNOWN, None)
            case _Row.FOLLOWED if version is not None:
                self._row, self._version = _Row.OWNED, version
            case _Row.FOLLOWED if self._clock() - self._followed_at > _MAX_TAKING:
                self._row = _Row.UNKNOWN
            case _Row.OWNED if version != self._version:
                self._row, self._version = _Row.UNKNOWN, None
        if version is None and not await self._is_busy():
            await self._guard()

    async def _is_alone(self, children: ChildSessions, sessions: Sequence[SeenSession]) -> bool:
        """Return whether the command has sessions, and no other session could have taken the row."""
        # The command may have connected and taken the row since the sessions were fetched.
        now = await children.fetch()
        owners = await lock_table.find_owners(self._session, self._location)
        own = {seen.pid for seen in now if seen.is_own}
        return bool(own) and all(seen.is_own for seen in (*sessions, *now)) and {owner.pid for owner in owners} <= own

    async def _guard(self) -> None:
        """Keep the row free by a transaction, where it is free and no session has locked its table."""
        if not await self._session.table_exists(self._marks.lock_relation):
            return
        await self._session.execute(_SQL["begin_guard"])
        try:
            await self._session.execute(bind(_SQL["guard"], lock=self._marks.lock_relation))
            if await self._marks.lock_row_version() is None:
                self._row = _Row.GUARDED
                return
        except StatementFailed as error:  # it is locked now, or our role may not lock it
            self._is_blind = isinstance(error, PermissionMissing)
        await self._end_transaction()

    async def _is_busy(self) -> bool:
        return bool(await self._session.fetch_value(_SQL["busy"], self._marks.lock_relation))

    async def _end_transaction(self) -> None:
        if self._session.in_transaction:
            await self._session.rollback()

    async def _note(self) -> None:
        """Write down what is new, and every three seconds that the run lives."""
        recorded = dict(self._children.recorded) if self._children else {}
        news = (self._version, recorded)
        if news != self._noted or self._clock() - self._noted_at >= _NOTE_INTERVAL:
            await self._marks.note(self._version, recorded)
            self._noted, self._noted_at = news, self._clock()


async def finish_quietly(watch: LockWatch) -> None:
    """Finish a watch whose session may be lost: then the mark stays, and the next run judges by it."""
    with suppress(ConnectionLost, StatementFailed):
        await watch.finish()
