"""`exec`: runs another migration tool under our lock, one run at a time, whatever lock the tool itself takes."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.dialects.detection import AUTO
from migrations.postgres import advisory_lock
from migrations.postgres.errors import ConnectionLost, DatabaseError
from migrations.reader.activity import read_row_lock
from migrations.reader.reader import READ_TIMEOUT, locate_ledger, read_ledger
from migrations.runner.locked_session import MAX_LOST_CONNECTIONS, open_session, run_under_lock
from migrations.runner.wait import REPORT_INTERVAL, describe_missing
from migrations.tools import lock_table, orphans, process
from migrations.tools.process import ChildProcess

if TYPE_CHECKING:
    import signal
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from migrations.core.ledger import Ledger
    from migrations.core.revision import Revision
    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import LockNotAcquired, RunOptions

HEARTBEAT_INTERVAL = 3.0
"""Seconds between two checks that the session which holds the lock is alive."""
HEARTBEAT_TIMEOUT = 10.0
"""Seconds for the server's answer to a check.

After the last answered check the command lives for 3 + 10 + 8 s at most: interval, timeout and grace period. The server
keeps a client that has vanished for 25 s (`SESSION_PARAMETERS`: 10 s idle and 3 keepalives of 5 s). So the command is
dead before another run can acquire the lock."""
_CHILD_GRACE_PERIOD = 8.0
_POLL_INTERVAL = 0.2  # seconds between two queries for sessions whose end is waited for

_ORPHAN_HINT = "Our role may not end it: wait, or end it as its own role, by pg_terminate_backend"
_DIALECT_UNKNOWN = (
    "expected --dialect to name the tool whose ledger the command writes: the lock belongs to that ledger, and neither "
    "the command nor a table of the database shows which it is"
)


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """What `exec` runs.

    Attributes:
        command: The program and its arguments.
        expected: What the ledger must hold afterwards; when it holds it already, the command is not run. None: run the
            command in any case, and rely on its exit code.
        names: Every migration of the image in order, for naming what is missing; they may be none.
        clear_stale_lock: Whether to free a row lock that no living session can own.
        limit: Seconds that the command may run; None for no limit.
    """

    command: Sequence[str]
    expected: Revision | None = None
    names: Sequence[str] = ()
    clear_stale_lock: bool = False
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class ExecSuccess:
    """The ledger holds what was expected.

    Attributes:
        head: Head of the ledger.
        ran: Whether the command was run.
    """

    head: str | None
    ran: bool


class ExecFailureReason(StrEnum):
    """Why the ledger may not hold what was expected; the value is the name of the log event."""

    COMMAND_FAILED = "command_failed"
    """The command failed, or took too long."""
    BEHIND = "behind"
    """The command succeeded, but the ledger lacks something."""
    OCCUPIED = "occupied"
    """A session that our lock does not exclude may be migrating."""
    DIALECT_UNKNOWN = "nameless"
    """It is unknown which tool's ledger the command writes, so there is no lock to acquire."""


@dataclass(frozen=True, slots=True)
class ExecFailure:
    """The ledger may not hold what was expected.

    Attributes:
        reason: The kind of failure.
        text: What is wrong, and what to do.
        code: The command's exit code, or minus the signal that ended it; None where it did not fail.
    """

    reason: ExecFailureReason
    text: str
    code: int | None = None


Outcome = ExecSuccess | ExecFailure


class Execution:
    """One `exec`, over as many connections as it needs."""

    def __init__(self, run: RunOptions, options: ExecOptions, reporter: Reporter) -> None:
        """Create the execution; `run` makes it work.

        Args:
            run: The ledger, whose dialect may be `auto`, and how long to try.
            options: What to run.
            reporter: Reports waits and of what is found.
        """
        self._run = run
        self._options = options
        self._reporter = reporter
        self._child: ChildProcess | None = None
        self._succeeded = False

    def forward(self, number: signal.Signals) -> bool:
        """Forward a signal to the command, and return whether it runs."""
        if self._child is None:
            return False
        self._child.stop(number)
        return True

    async def run(self) -> Outcome | LockNotAcquired:
        """Acquire the lock, run the command, and check that the ledger holds what was expected.

        Raises:
            ChildError: The command cannot be started.
            DatabaseError: The database cannot be reached in time, or cannot be used; or the lock was lost while the
                command ran, which was ended for that.
            LedgerUnreadable: The table is not a ledger of the dialect.
        """
        process.require_program(self._options.command)
        for attempt in range(1, MAX_LOST_CONNECTIONS + 1):
            try:
                return await self._attempt()
            except ConnectionLost as error:
                if self._child is not None or attempt == MAX_LOST_CONNECTIONS:
                    raise
                self._reporter.info("connection_lost", f"{error}; connecting again")
        raise AssertionError  # the last attempt returns or raises

    async def _attempt(self) -> Outcome | LockNotAcquired:
        async with open_session(self._run) as session:
            location = await locate_ledger(session, self._run.source, limit=READ_TIMEOUT)
            if location.dialect is AUTO:
                return ExecFailure(ExecFailureReason.DIALECT_UNKNOWN, _DIALECT_UNKNOWN)
            place = location.place
            source = replace(self._run.source, dialect=location.dialect, schema=place.schema, table=place.table)
            run = replace(self._run, source=source)
            if self._succeeded:  # the connection was lost after the command had ended
                return self._check_result(await read_ledger(session, source, limit=READ_TIMEOUT))
            # In this session, so that the pods of a finished rollout open one connection each.
            if (success := await self._check_first(run, session)) is not None:
                return success

        async def check_first(session: Session) -> Outcome | None:
            return await self._check_first(run, session)

        async def work(session: Session) -> Outcome:
            return await self._run_under_lock(run, location, session)

        return await run_under_lock(run, self._reporter, work, check_first)

    async def _check_first(self, run: RunOptions, session: Session) -> ExecSuccess | None:
        """Return success where the ledger already holds what is expected; reads without the lock."""
        if self._options.expected is None:
            return None
        return self._already_complete(await read_ledger(session, run.source, limit=READ_TIMEOUT))

    def _already_complete(self, ledger: Ledger) -> ExecSuccess | None:
        expected = self._options.expected
        return None if expected is None or ledger.gap(expected) else ExecSuccess(ledger.head, ran=False)

    async def _run_under_lock(self, run: RunOptions, location: Location, session: Session) -> Outcome:
        """End what earlier runs left, read the ledger again, run the command, and check the result."""
        key = advisory_lock.lock_key(location.place.relation)
        orphans_left = await self._wait_until_empty(lambda: orphans.terminate_orphans(session, key), run)
        if orphans_left:
            text = f"still there: {_join(orphans_left)}. {_ORPHAN_HINT}"
            return ExecFailure(ExecFailureReason.OCCUPIED, text)
        ledger = await read_ledger(session, run.source, limit=READ_TIMEOUT)
        if (success := self._already_complete(ledger)) is not None:
            return success
        if ledger.dirty is not None:
            text = f"{ledger.dirty.revision} is {ledger.dirty.state} in the ledger, but no run holds our lock"
            self._reporter.info("dirty", text, revision=ledger.dirty.revision)
        if (occupied := await self._clear_row_lock(run, location, session)) is not None:
            return occupied
        environment = orphans.marked_environment(os.environ, key, location.dialect.name)
        failure = await self._run_child(session, environment)
        self._child = None
        if failure is not None:
            with suppress(DatabaseError):
                await self._report_row_lock(session, location)
            return failure
        self._succeeded = True
        return self._check_result(await read_ledger(session, run.source, limit=READ_TIMEOUT))

    async def _clear_row_lock(self, run: RunOptions, location: Location, session: Session) -> ExecFailure | None:
        """Report a taken row lock and, with --clear-stale-lock, free it once no living session can own it."""
        if not await self._report_row_lock(session, location) or not self._options.clear_stale_lock:
            return None
        owners = await self._wait_until_empty(lambda: lock_table.clear_row_lock(session, location), run)
        if owners:
            text = f"the row lock may have an owner who is alive: {_join(owners)}. If it is not, {_by_hand(location)}"
            return ExecFailure(ExecFailureReason.OCCUPIED, f"{text} frees it")
        self._reporter.info("row_lock_freed", "freed the row lock: no living session can own it")
        return None

    async def _wait_until_empty(
        self, find: Callable[[], Awaitable[Sequence[object]]], run: RunOptions
    ) -> Sequence[object]:
        """Call `find` until it finds nothing; return what is left when `lock_wait_timeout` has passed."""
        clock = asyncio.get_running_loop().time
        began, reported = clock(), -REPORT_INTERVAL
        while found := await find():
            waited = clock() - began
            if waited >= run.lock_wait_timeout:
                return found
            if waited - reported >= REPORT_INTERVAL:
                reported = waited
                self._reporter.info("outwaiting", f"waiting for the end of {found[0]}; {waited:.0f} s so far")
            await asyncio.sleep(_POLL_INTERVAL)
        return ()

    async def _report_row_lock(self, session: Session, location: Location) -> bool:
        """Report the tool's row lock where it is taken, and return whether it is."""
        row_lock = await read_row_lock(session, location)
        if row_lock is None:
            return False
        holder = f" by {row_lock.holder}" if row_lock.holder else ""
        since = f" since {row_lock.since:%Y-%m-%d %H:%M:%S%z}" if row_lock.since else ""
        text = f"the row lock of {location.dialect.name} is taken{holder}{since}, but no run under our lock holds it"
        if not self._options.clear_stale_lock:
            command = _by_hand(location)
            text += f"; --clear-stale-lock frees it where no living session can own it, {command} in any case"
        self._reporter.info("row_lock_taken", text, holder=row_lock.holder)
        return True

    async def _run_child(self, session: Session, environment: Mapping[str, str]) -> ExecFailure | None:
        """Run the command for as long as the session holds the lock, and no longer."""
        options = self._options
        self._child = ChildProcess(options.command, environment, grace_period=_CHILD_GRACE_PERIOD)
        child_ended = asyncio.Event()
        child = asyncio.ensure_future(self._child.run())
        heartbeat = asyncio.ensure_future(_is_session_lost(session, child_ended))
        try:
            await asyncio.wait({child, heartbeat}, timeout=options.limit, return_when=asyncio.FIRST_COMPLETED)
            in_time = child.done() or heartbeat.done()
            if not child.done():
                self._child.stop()
            code = await child
            # Ends the heartbeat between two queries: a cancelled query would end the session, which is still needed.
            child_ended.set()
            lost, text = await heartbeat, process.describe_exit(options.command, code)
        finally:
            for task in (child, heartbeat):
                task.cancel()
            await asyncio.gather(child, heartbeat, return_exceptions=True)
        if not in_time:
            text = f"{text}: it took longer than --timeout {options.limit:g}"
            return ExecFailure(ExecFailureReason.COMMAND_FAILED, text, code)
        if lost and code:
            raise ConnectionLost(f"{text}: the session that holds the lock was lost, and another run could begin")
        return ExecFailure(ExecFailureReason.COMMAND_FAILED, text, code) if code else None

    def _check_result(self, ledger: Ledger) -> Outcome:
        expected = self._options.expected
        if expected is None or not ledger.gap(expected):
            return ExecSuccess(ledger.head, ran=True)
        missing = describe_missing(expected, ledger, self._options.names)
        text = f"the command succeeded, but the ledger does not hold what was expected: {missing}"
        return ExecFailure(ExecFailureReason.BEHIND, text)


def _by_hand(location: Location) -> str:
    return f"`{location.dialect.row_lock.by_hand}`" if location.dialect.row_lock else "the tool itself"


def _join(items: Sequence[object]) -> str:
    return "; ".join(map(str, items))


async def _is_session_lost(session: Session, ended: asyncio.Event) -> bool:
    """Check the session until the command has ended or the session is lost, and return whether it is lost.

    Lost is a session that is closed or does not answer; or that another backend answers, because a pooler has replaced
    the server connection: then the lock is gone, although the session seems to live.
    """
    session.on_close(ended.set)
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_INTERVAL):
                await ended.wait()
        if ended.is_set():
            return session.closed
        try:
            async with asyncio.timeout(HEARTBEAT_TIMEOUT):
                if await session.fetch_value("select pg_backend_pid()") != session.lock_pid:
                    return True
        except (DatabaseError, TimeoutError):
            return True
