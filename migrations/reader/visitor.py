"""A visit to one database: one session, over which several ledgers are read once, or followed.

While it follows, NOTIFY reports changes by `ledgergate` at once, and polling finds those of other tools. Whatever goes
wrong becomes an answer; nothing that a server does ends another visit.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from migrations.core.backoff import Backoff
from migrations.dialects.catalogue import find_dialect
from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.postgres.errors import (
    AnswerUnreadable,
    ConnectionLost,
    DatabaseError,
    ProtocolBroken,
    ServerReadOnly,
    StatementFailed,
    TooManyConnections,
    Unreachable,
)
from migrations.reader import wire
from migrations.reader.activity import find_active_migration
from migrations.reader.reader import LedgerReader, LedgerSource, LedgerTooLarge
from migrations.reader.watcher import CHANNEL, PollIntervals, classify, describe_fault, unforeseen
from migrations.sql.statements import load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from migrations.core.ledger import Ledger
    from migrations.postgres.session import Session

_SQL = load("reading")
_INTERVALS = PollIntervals()
Result = TypeVar("Result")

IDLE_GROWTH = 1.5  # factor from one idle pause to the next
RECOVERY_CHECK = 2.0
"""Seconds between two checks whether the server was demoted."""
STANDBY_SESSION = 10.0
"""Seconds after which a session with a standby is opened anew: by then the name may lead to the primary."""
CPU_SHARE = 0.2
"""Of the worker's CPU time, what the reads of one database may use; a read that took long makes the pause longer."""
ENTRIES_A_SECOND = 10_000
"""Records that one visit may send: the parent builds a ledger of them, and has others to attend to."""
LONGEST_GAP = 0.25
"""Seconds between two reads while NOTIFY after NOTIFY comes and nothing has changed."""


class Visitor:
    """One visit.

    Args:
        visit: What to read.
        send: Sends an answer, and waits while the parent is slow to take it.
        spent: Returns the CPU seconds that the visit has used so far.
        intervals: How often to read.
    """

    def __init__(
        self,
        visit: wire.Visit,
        send: Callable[[wire.Answer], Awaitable[None]],
        spent: Callable[[], float] = lambda: 0.0,
        intervals: PollIntervals = _INTERVALS,
    ) -> None:
        self._visit = visit
        self._send = send
        self._spent = spent
        self._intervals = intervals
        self._address = Address(*visit.plan)
        self._sources = [
            LedgerSource(self._address, find_dialect(name.dialect), name.schema, name.table) for name in visit.ledgers
        ]
        self._urgent = visit.urgent
        self._wake = asyncio.Event()
        self._pending = set(range(len(self._sources)))
        self._retry_at = dict.fromkeys(self._pending, 0.0)
        self._backoffs = {
            place: Backoff(intervals.retry, intervals.unreadable_slowest, random.random) for place in self._pending
        }
        self._sent: dict[int, tuple[Ledger, bool, str]] = {}
        self._runs: dict[int, wire.Run | None] = {}
        self._idle = intervals.idle
        self._changed = False
        self._gap = 0.0
        self._was_read = False
        self._lost_at = float("-inf")
        self._losses = Backoff(intervals.retry, intervals.retry_slowest, random.random)

    def poll(self, *, urgent: bool) -> None:
        """Read now, and from now on as often as `urgent` says."""
        self._urgent = urgent
        self._idle = self._intervals.idle
        self._wake.set()

    async def run(self) -> None:
        """Read until everything was read, or until cancelled; every failure becomes an answer."""
        try:
            while await self._hold_session():
                pass
        except (DatabaseError, LedgerUnreadable) as error:
            await self._report(None, error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._report(None, unforeseen(error))  # a future of the driver was cancelled, not this task
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - see the module
            await self._report(None, unforeseen(error))

    async def _hold_session(self) -> bool:
        """Read over one session; return whether another one is needed."""
        limit = self._intervals.timeout
        session = await connect(self._address, timeout=limit, application_name=self._visit.application_name)
        try:
            standby = bool(await self._timed(session, session.fetch_value(_SQL["recovery"])))
            if self._visit.follow:
                session.on_close(self._wake.set)
                with suppress(ServerReadOnly):  # a standby does not support LISTEN, and is polled
                    await self._timed(session, session.listen(CHANNEL, self._wake.set))
            return await self._read_until_done(session, standby)
        except ConnectionLost:
            # A session that ended proves nothing about the server: a failover, or a pooler that closes idle sessions,
            # ends it too. It is a fault only when the next one fails as well.
            if not self._was_read:
                raise
            self._was_read = False
            await asyncio.sleep(self._after_loss())
            return True
        finally:
            await session.close()

    async def _read_until_done(self, session: Session, standby: bool) -> bool:
        readers = [LedgerReader(session, source) for source in self._sources]
        opened = checked = time.monotonic()
        while True:
            self._wake.clear()  # before the reads: a NOTIFY that comes during one needs another
            spent = self._spent()
            self._changed = False
            for place in self._due():
                if not await self._read(session, readers[place], place, standby):
                    if self._pending:
                        return True
                    break
            if not self._visit.follow and not self._pending:
                return False
            await self._pause(self._spent() - spent)
            if session.closed:
                raise ConnectionLost(f"{self._address} has ended the session")
            now = time.monotonic()
            if standby and now - opened > STANDBY_SESSION:
                return True
            if not standby and now - checked > RECOVERY_CHECK:
                checked = now
                if await self._timed(session, session.fetch_value(_SQL["recovery"])):
                    return True  # it was demoted: the name may lead to the new primary

    def _after_loss(self) -> float:
        """Return the seconds to wait before the next session: none, unless sessions end one after the other."""
        lost, self._lost_at = self._lost_at, time.monotonic()
        if self._lost_at - lost > self._intervals.retry_slowest:
            self._losses.reset()
            return 0.0
        return self._losses.next()

    def _due(self) -> list[int]:
        now = time.monotonic()
        return [place for place in sorted(self._pending) if self._retry_at[place] <= now]

    async def _read(self, session: Session, reader: LedgerReader, place: int, standby: bool) -> bool:
        """Read one ledger and report it; return False where that has cost the session."""
        clock = time.monotonic
        began = clock()
        try:
            ledger = await self._timed(session, reader.read())
        except (StatementFailed, LedgerUnreadable) as error:
            await self._report(place, error)
            self._settle(place)
            self._retry_at[place] = clock() + self._backoffs[place].next(
                at_most=float("inf") if _is_hostile(error) else self._intervals.retry_slowest
            )
            return not session.closed
        self._was_read = True
        self._backoffs[place].reset()
        found = ledger, standby, wire.cut(reader.location.missing_table if reader.location else "")
        same = self._sent.get(place) == found
        entries = None if same else wire.to_entries(ledger)
        self._changed = self._changed or not same
        answer = wire.Reading(
            self._visit.job, place, clock() - began, entries, ledger.history, ledger.versioning, *found[1:]
        )
        try:
            await self._send(answer)
        except wire.FrameTooLarge:
            await self._report(place, LedgerTooLarge("the names of the ledger's revisions are too long to be one"))
            self._retry_at[place] = clock() + self._backoffs[place].next()
            self._settle(place)
            return True
        self._sent[place] = found
        self._settle(place)
        # Only after the reading was sent: who migrates is shown to users, and no decision waits for it.
        await self._report_run(session, reader, place, ledger)
        return True

    def _settle(self, place: int) -> None:
        if not self._visit.follow:
            self._pending.discard(place)

    async def _report_run(self, session: Session, reader: LedgerReader, place: int, ledger: Ledger) -> None:
        run = None
        if reader.location is not None and (self._urgent or ledger.dirty):
            with suppress(StatementFailed):  # the ledger could be read, so this is not a fault
                run = wire.to_run(await self._timed(session, find_active_migration(session, reader.location)))
        if run != self._runs.get(place):
            self._runs[place] = run
            await self._send(wire.Migrating(self._visit.job, place, run))

    async def _timed(self, session: Session, work: Awaitable[Result]) -> Result:
        limit = self._intervals.timeout
        try:
            async with asyncio.timeout(limit):
                return await work
        except TimeoutError as error:
            session.terminate()  # a server that has vanished would not answer a Terminate message either
            raise Unreachable(f"{self._address} did not answer within {limit:g} s") from error

    async def _pause(self, spent: float) -> None:
        """Wait for the next round: a NOTIFY, a request, or the interval; longer where the last round cost much."""
        if self._changed:
            self._idle = self._intervals.idle
        pause = self._intervals.urgent if self._urgent else self._idle
        self._idle = min(self._idle * IDLE_GROWTH, self._intervals.slowest)
        entries = sum(len(ledger.records) for ledger, *_ in self._sent.values()) if self._changed else 0
        least = max(spent / CPU_SHARE if spent > LONGEST_GAP * CPU_SHARE else 0.0, entries / ENTRIES_A_SECOND - 0.1)
        began = time.monotonic()
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            self._gap = 0.0
        else:
            self._gap = 0.0 if self._changed else min(max(self._gap * 2, 0.01), LONGEST_GAP)
        await asyncio.sleep(max(0.0, self._gap, least - (time.monotonic() - began)))

    async def _report(self, place: int | None, error: DatabaseError | LedgerUnreadable) -> None:
        if place is None:
            self._sent.clear()
        else:
            self._sent.pop(place, None)
        await self._send(
            wire.FaultFound(
                self._visit.job,
                place,
                classify(error),
                wire.cut(describe_fault(error)),
                wire.cut(str(error)),
                crowded=isinstance(error, TooManyConnections),
                hostile=_is_hostile(error),
            )
        )


def _is_hostile(error: Exception) -> bool:
    return isinstance(error, AnswerUnreadable | LedgerTooLarge | ProtocolBroken)
