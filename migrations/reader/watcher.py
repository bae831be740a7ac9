"""A watcher that keeps a snapshot of one ledger current, over one connection.

NOTIFY reports changes by `ledgergate` at once. Polling finds those of other tools, which send none, and those whose
NOTIFY was lost.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from migrations.core.backoff import Backoff
from migrations.core.snapshot import ActiveMigration, Fault, LedgerSnapshot
from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres.connection import connect
from migrations.postgres.errors import (
    AddressRefused,
    AnswerUnreadable,
    AuthenticationFailed,
    ConnectionLost,
    DatabaseError,
    DatabaseMissing,
    Misconfigured,
    PermissionMissing,
    RowsHidden,
    ServerReadOnly,
    StatementFailed,
    TimedOut,
    Unreachable,
)
from migrations.reader.activity import find_active_migration
from migrations.reader.reader import LedgerReader, LedgerSource, LedgerTooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from migrations.core.ledger import Ledger
    from migrations.postgres.session import Session

CHANNEL = "ledgergate"
_IDLE_GROWTH = 1.5  # factor from one idle pause to the next
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PollIntervals:
    """How often a ledger that is followed is read; all in seconds.

    Attributes:
        urgent: Between two reads while pods wait; the most that a lost NOTIFY can cost.
        idle: Between two reads after a change; it grows while nothing changes. A NOTIFY comes sooner: this is for tools
            that send none.
        slowest: What `idle` grows to, and therefore how late a vanished server may be noticed.
        retry: Before the second attempt to connect after a failure; it doubles with each one, with jitter.
        retry_slowest: What `retry` grows to.
        unreadable_slowest: What `retry` grows to while the answer cannot be decoded or is too large: each attempt costs
            more than a connection, and only an edit of the table helps.
        timeout: For one read, or one attempt to connect. More than the 1 s that the server has for each statement, so
            that a slow statement is the server's error and not a lost connection.
    """

    urgent: float = 0.25
    idle: float = 1.0
    slowest: float = 10.0
    retry: float = 0.1
    retry_slowest: float = 5.0
    unreadable_slowest: float = 120.0
    timeout: float = 3.0


class LedgerWatcher:
    """A task that follows one ledger, and the snapshot of what it last read."""

    def __init__(
        self,
        source: LedgerSource,
        *,
        on_change: Callable[[LedgerSnapshot], None],
        on_read: Callable[[float], None] = lambda _: None,
        on_fault: Callable[[Fault, str], None] = lambda *_: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
        intervals: PollIntervals = PollIntervals(),
        application_name: str = "ledgergate watcher",
    ) -> None:
        """Create the watcher; `run` makes it work.

        Args:
            source: The ledger.
            on_change: Called with each snapshot that differs from the one before in more than its time.
            on_read: Called with the duration of each successful read, in seconds.
            on_fault: Called with each new fault and its message, which names the server but no password.
            now: Returns the time, in UTC.
            jitter: Returns a random number from 0 to 1, for the pauses between attempts to connect.
            intervals: How often to read.
            application_name: What `pg_stat_activity` shows.
        """
        self.source = source
        self._on_change = on_change
        self._on_read = on_read
        self._on_fault = on_fault
        self._now = now
        self._intervals = intervals
        self._name = application_name
        self._snapshot = LedgerSnapshot(fault=Fault.UNREAD)
        self._urgent = False
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._backoff = Backoff(intervals.retry, intervals.retry_slowest, jitter)
        self._unreadable_backoff = Backoff(intervals.retry, intervals.unreadable_slowest, jitter)
        self._retrying = False
        self._idle = intervals.idle

    @property
    def snapshot(self) -> LedgerSnapshot:
        """What is known of the ledger now."""
        return self._snapshot

    @property
    def urgent(self) -> bool:
        """Whether pods wait for the ledger, so that it is polled at the shortest interval."""
        return self._urgent

    @urgent.setter
    def urgent(self, value: bool) -> None:
        if value and not self._urgent:
            self._wake.set()
        self._urgent = value
        self._idle = self._intervals.idle

    async def refresh(self, max_wait: float) -> LedgerSnapshot:
        """Return a snapshot whose read began after this call; concurrent callers share one read.

        While the ledger cannot be read, the current snapshot is returned at once: a caller must not wait for a server
        that is known to be down.

        Args:
            max_wait: Seconds to wait; after that the current snapshot is returned as it is.
        """
        if self._snapshot.fault in {None, Fault.UNREAD}:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(max_wait):
                    await waiter
        return self._snapshot

    async def run(self) -> None:
        """Follow the ledger until cancelled. Any error becomes the fault of the snapshot, and is retried.

        Many ledgers are followed in one process. What a database answers must not end the work for the others, even
        where the driver or the dialect fails in a way that nothing here foresees.
        """
        while True:
            try:
                await self._follow_session()
            except (DatabaseError, LedgerUnreadable) as error:
                # A session that ended proves nothing about the server: a failover, or a pooler that closes idle
                # sessions, ends it too. Connect again at once, and report a fault only when that fails as well.
                if isinstance(error, ConnectionLost) and not self._retrying:
                    self._retrying = True
                    continue
                pause = self._pause_after(error)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                pause = self._pause_after(unforeseen(error))  # a future of the driver was cancelled, not this task
            except Exception as error:  # noqa: BLE001 - see above
                pause = self._pause_after(unforeseen(error))
            await asyncio.sleep(pause)

    def _pause_after(self, error: DatabaseError | LedgerUnreadable) -> float:
        """Record a failure, and return the seconds until the next attempt."""
        self._retrying = True
        self._record_failure(error)
        if isinstance(error, AnswerUnreadable | LedgerTooLarge):
            return self._unreadable_backoff.next()
        # While pods wait, a server that is back must be found soon.
        return self._backoff.next(at_most=self._intervals.idle if self._urgent else self._intervals.retry_slowest)

    async def _follow_session(self) -> None:
        """Connect, then read at every NOTIFY, request and interval, until something fails."""
        session = await connect(self.source.address, timeout=self._intervals.timeout, application_name=self._name)
        try:
            session.on_close(self._wake.set)
            # Before the first read: a change between the read and LISTEN would not be noticed. A standby does not
            # support LISTEN, and is polled.
            with suppress(ServerReadOnly):
                await self._with_timeout(session, session.listen(CHANNEL, self._wake.set))
            reader = LedgerReader(session, self.source)
            while True:
                await self._read(session, reader)
                await self._wait_for_wake()
        finally:
            await session.close()

    async def _read(self, session: Session, reader: LedgerReader) -> None:
        # Both before the read begins: a request or NOTIFY that comes during the read needs another one.
        self._wake.clear()
        waiters, self._waiters = self._waiters, []
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            ledger = await self._with_timeout(session, reader.read())
        except BaseException:
            self._waiters = waiters + self._waiters
            raise
        self._retrying = False
        self._backoff.reset()
        self._unreadable_backoff.reset()
        self._on_read(clock() - began)
        missing_table = reader.location.missing_table if reader.location else ""
        self._update(LedgerSnapshot(ledger, self._now(), missing_table=missing_table, run=self._snapshot.run))
        _release(waiters)
        # Only after the waiters were released: who migrates is shown to users, and no decision waits for it.
        run = await self._with_timeout(session, self._find_active_migration(session, reader, ledger))
        self._update(replace(self._snapshot, run=run))

    async def _find_active_migration(
        self, session: Session, reader: LedgerReader, ledger: Ledger
    ) -> ActiveMigration | None:
        if reader.location is None or not (self._urgent or ledger.dirty):
            return None
        with suppress(StatementFailed):  # the ledger could be read, so this is not a fault
            return await find_active_migration(session, reader.location)
        return None

    async def _with_timeout(self, session: Session, work: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(self._intervals.timeout):
                return await work
        except TimeoutError as error:
            session.terminate()  # a server that has vanished would not answer a Terminate message either
            message = f"{self.source.address} did not answer within {self._intervals.timeout:g} s"
            raise Unreachable(message) from error

    async def _wait_for_wake(self) -> None:
        pause = self._intervals.urgent if self._urgent else self._idle
        self._idle = min(self._idle * _IDLE_GROWTH, self._intervals.slowest)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    def _record_failure(self, error: DatabaseError | LedgerUnreadable) -> None:
        fault = classify(error)
        if fault is not self._snapshot.fault:
            self._on_fault(fault, str(error))
        self._update(replace(self._snapshot, fault=fault, detail=describe_fault(error), run=None))
        waiters, self._waiters = self._waiters, []
        _release(waiters)

    def _update(self, snapshot: LedgerSnapshot) -> None:
        known = self._snapshot
        if snapshot.ledger == known.ledger:
            snapshot = replace(snapshot, ledger=known.ledger)  # the known object has its cached properties filled
        self._snapshot = snapshot
        if replace(snapshot, observed_at=known.observed_at) != known:
            self._idle = self._intervals.idle
            self._on_change(snapshot)


def _release(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def unforeseen(error: BaseException) -> AnswerUnreadable:
    """Return the failure for an exception that neither the session nor the dialect has translated."""
    failure = AnswerUnreadable(f"the answer cannot be decoded ({type(error).__name__})")
    failure.__cause__ = error
    return failure


def describe_fault(error: DatabaseError | LedgerUnreadable) -> str:
    """Return what is wrong with the table, or with where the server is, in our own words; empty for any other fault.

    It is shown to users who may not know the database's host.
    """
    if isinstance(error, RowsHidden):
        return error.cause
    if isinstance(error, AddressRefused):
        return str(error)
    if isinstance(error, AnswerUnreadable):
        return f"the ledger's table cannot be read: {error}"
    return str(error) if isinstance(error, LedgerUnreadable) else ""


_FAULTS: Sequence[tuple[type[Exception], Fault]] = (  # the first class that an error is an instance of counts
    (AuthenticationFailed, Fault.AUTHENTICATION),
    (DatabaseMissing, Fault.DATABASE),
    (Misconfigured, Fault.ADDRESS),
    (RowsHidden, Fault.ROWS_HIDDEN),
    (PermissionMissing, Fault.PERMISSION),
    (TimedOut, Fault.UNREACHABLE),
    (StatementFailed, Fault.LEDGER),
    (LedgerUnreadable, Fault.LEDGER),
)


def classify(error: DatabaseError | LedgerUnreadable) -> Fault:
    """Return the fault that a snapshot shows for an error."""
    return next((fault for kind, fault in _FAULTS if isinstance(error, kind)), Fault.UNREACHABLE)
