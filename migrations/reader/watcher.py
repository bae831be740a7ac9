"""Watches a ledger for as long as somebody needs it, and keeps what is known of it."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from migrations.core.snapshot import ActiveMigration, Fault, LedgerSnapshot
from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DatabaseError,
    DatabaseMissing,
    Misconfigured,
    PermissionMissing,
    ServerReadOnly,
    StatementFailed,
    TimedOut,
    Unreachable,
)
from migrations.postgres.session import connect
from migrations.reader.activity import find_active_migration
from migrations.reader.reader import LedgerReader, LedgerSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from migrations.core.ledger import Ledger
    from migrations.postgres.session import Session

CHANNEL = "ledgergate"
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PollIntervals:
    """How often a watcher looks; all in seconds.

    Attributes:
        urgent: Between two reads while somebody waits; a NOTIFY that was lost costs no more than this.
        idle: Between two reads after a change. A NOTIFY is what brings news; this is for tools that send none.
        slowest: What `idle` grows to while nothing changes, and how late a dead peer may be noticed.
        retry: Before the second attempt to connect after a failure; doubled with each one, with jitter.
        retry_slowest: What `retry` grows to.
        timeout: For one read or one attempt to connect; above the server's own limit of 1 s a statement.
    """

    urgent: float = 0.25
    idle: float = 1.0
    slowest: float = 10.0
    retry: float = 0.1
    retry_slowest: float = 5.0
    timeout: float = 3.0


class LedgerWatcher:
    """Keep the reading of one ledger fresh: on NOTIFY at once, else by polling, over one connection."""

    def __init__(
        self,
        source: LedgerSource,
        *,
        on_change: Callable[[LedgerSnapshot], None],
        on_read: Callable[[float], None] = lambda _: None,
        on_fault: Callable[[Fault, str], None] = lambda *_: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
        pace: PollIntervals = PollIntervals(),
        application_name: str = "ledgergate watcher",
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            source: Which ledger.
            on_change: Called with the new reading when anything of it has changed but the time, never for a read that
                found the same.
            on_read: Called with the seconds that each successful read took.
            on_fault: Called with each new fault and what it is in words, which name the server but no password.
            now: The clock, in UTC.
            jitter: Random numbers from 0 to 1, for the pauses between attempts to connect.
            pace: How often to look.
            application_name: What `pg_stat_activity` shows.
        """
        self.source = source
        self._on_change = on_change
        self._on_read = on_read
        self._on_fault = on_fault
        self._now = now
        self._jitter = jitter
        self._pace = pace
        self._name = application_name
        self._snapshot = LedgerSnapshot(fault=Fault.UNREAD)
        self._urgent = False
        self._wake = asyncio.Event()
        self._wishes: list[asyncio.Future[None]] = []
        self._failures = 0
        self._idle = pace.idle

    @property
    def snapshot(self) -> LedgerSnapshot:
        """What is known now."""
        return self._snapshot

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for news, so that the ledger is polled often."""
        return self._urgent

    @urgent.setter
    def urgent(self, value: bool) -> None:
        if value and not self._urgent:
            self._wake.set()
        self._urgent = value
        self._idle = self._pace.idle

    def seed(self, ledger: Ledger, observed_at: datetime | None = None) -> None:
        """Start from what was last known before a restart; without effect once a ledger is known."""
        if self._snapshot.ledger is None:
            self._snapshot = replace(self._snapshot, ledger=ledger, observed_at=observed_at)

    async def fresh(self, within: float) -> LedgerSnapshot:
        """Give a reading that began after this call; everybody who waits at once shares one.

        While a fault is known, the current reading is given at once, without I/O.

        Args:
            within: Seconds to wait at most; then the current reading is given as it is.
        """
        if self._snapshot.fault in {None, Fault.UNREAD}:
            wish = asyncio.get_running_loop().create_future()
            self._wishes.append(wish)
            self._wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await wish
        return self._snapshot

    async def run(self) -> None:
        """Watch until cancelled; whatever fails becomes a fault of the reading and is tried again."""
        while True:
            try:
                await self._follow()
            except (DatabaseError, LedgerUnreadable) as error:
                self._failures += 1
                # A session that ended says nothing of the server: only when a new one fails too is it a fault.
                if self._failures == 1 and isinstance(error, ConnectionLost):
                    continue
                self._fail(error)
            await asyncio.sleep(self._backoff())

    async def _follow(self) -> None:
        """Connect, then read whenever there is reason to, until something fails."""
        session = await connect(self.source.address, timeout=self._pace.timeout, application_name=self._name)
        try:
            session.on_close(self._wake.set)
            # Before the first read, so that nothing falls between the two. A standby cannot listen and is polled.
            with suppress(ServerReadOnly):
                await self._bounded(session, session.listen(CHANNEL, self._wake.set))
            reader = LedgerReader(session, self.source)
            while True:
                await self._read(session, reader)
                await self._rest()
        finally:
            await session.close()

    async def _read(self, session: Session, reader: LedgerReader) -> None:
        self._wake.clear()
        granted, self._wishes = self._wishes, []
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            ledger = await self._bounded(session, reader.read())
        except BaseException:
            self._wishes = granted + self._wishes
            raise
        self._failures = 0
        self._on_read(clock() - began)
        self._change(LedgerSnapshot(ledger, self._now(), run=self._snapshot.run))
        _grant(granted)
        # After the answer that others wait for: who migrates is only told, and decides nothing.
        run = await self._bounded(session, self._running(session, reader, ledger))
        self._change(replace(self._snapshot, run=run))

    async def _running(self, session: Session, reader: LedgerReader, ledger: Ledger) -> ActiveMigration | None:
        if reader.location is None or not (self._urgent or ledger.dirty):
            return None
        with suppress(StatementFailed):  # the ledger is readable all the same
            return await find_active_migration(session, reader.location)
        return None

    async def _bounded(self, session: Session, work: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(self._pace.timeout):
                return await work
        except TimeoutError as error:
            session.terminate()  # a dead peer would not hear a goodbye either
            raise Unreachable(f"{self.source.address} did not answer within {self._pace.timeout:g} s") from error

    async def _rest(self) -> None:
        pause = self._pace.urgent if self._urgent else self._idle
        self._idle = min(self._idle * 1.5, self._pace.slowest)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    def _fail(self, error: DatabaseError | LedgerUnreadable) -> None:
        fault = _fault(error)
        if fault is not self._snapshot.fault:
            self._on_fault(fault, str(error))
        detail = str(error) if isinstance(error, LedgerUnreadable) else ""
        self._change(replace(self._snapshot, fault=fault, detail=detail, run=None))
        granted, self._wishes = self._wishes, []
        _grant(granted)

    def _change(self, snapshot: LedgerSnapshot) -> None:
        known = self._snapshot
        if snapshot.ledger == known.ledger:
            snapshot = replace(snapshot, ledger=known.ledger)  # keeps what that one has already computed
        self._snapshot = snapshot
        if replace(snapshot, observed_at=known.observed_at) != known:
            self._idle = self._pace.idle
            self._on_change(snapshot)

    def _backoff(self) -> float:
        slowest = self._pace.idle if self._urgent else self._pace.retry_slowest
        exponent = min(self._failures - 1, 10)  # far beyond the slowest, far below an overflow
        return min(self._pace.retry * 2.0**exponent, slowest) * (0.5 + self._jitter() / 2)


def _grant(wishes: Iterable[asyncio.Future[None]]) -> None:
    for wish in wishes:
        if not wish.done():
            wish.set_result(None)


def _fault(error: DatabaseError | LedgerUnreadable) -> Fault:
    match error:
        case AuthenticationFailed():
            return Fault.AUTHENTICATION
        case DatabaseMissing():
            return Fault.DATABASE
        case Misconfigured():
            return Fault.ADDRESS
        case PermissionMissing():
            return Fault.PERMISSION
        case StatementFailed() | LedgerUnreadable() if not isinstance(error, TimedOut):
            return Fault.LEDGER
        case _:
            return Fault.UNREACHABLE
