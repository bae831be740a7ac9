"""`exec`: runs another migration tool under our lock, one run at a time, whatever lock the tool itself takes."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.dialects.catalogue import AUTO
from migrations.postgres import advisory_lock
from migrations.postgres.errors import ConnectionLost, DatabaseError, StatementFailed
from migrations.reader.reader import READ_TIMEOUT, LedgerReader, locate_ledger, read_ledger
from migrations.runner.locked_session import MAX_LOST_CONNECTIONS, open_session, run_under_lock
from migrations.runner.wait import describe_missing
from migrations.tools import orphans, process
from migrations.tools.lock_watch import LockWatch, finish_quietly
from migrations.tools.other_ledgers import changed_elsewhere, read_fingerprints
from migrations.tools.process import ChildProcess
from migrations.tools.row_lock import RowLockKeeper, wait_until_empty

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence

    from migrations.core.ledger import Ledger
    from migrations.core.revision import Revision
    from migrations.dialects.detection import Location
    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import LockNotAcquired, RunOptions
    from migrations.tools.exec_mark import MarkTable
    from migrations.tools.other_ledgers import Fingerprints

HEARTBEAT_INTERVAL = 3.0
"""Seconds between two checks that the session which holds the lock is alive."""
HEARTBEAT_TIMEOUT = 10.0
"""Seconds for the server's answer to a check.

After the last answered check the command lives for 3 + 10 + 8 s at most: interval, timeout and grace period. The server
keeps a client that has vanished for 25 s (`SESSION_PARAMETERS`: 10 s idle and 3 keepalives of 5 s). So the command is
dead before another run can acquire the lock."""
_CHILD_GRACE_PERIOD = 8.0

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
        expected: What the ledger must hold afterwards. None: rely on the command's exit code.
        skip_when_complete: Whether to skip the command where the ledger holds `expected` already.
        names: Every migration of the image in order, for naming what is missing; may be empty.
        clear_stale_lock: Whether to free a row lock that a run of `exec` has left, once it is proven to be dead.
        limit: Seconds that the command may run; None for no limit.
    """

    command: Sequence[str]
    expected: Revision | None = None
    skip_when_complete: bool = True
    names: Sequence[str] = ()
    clear_stale_lock: bool = False
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class ExecSuccess:
    """The ledger holds what was expected.

    Attributes:
        head: Head of the ledger.
        ran: Whether the command was run.
        table: The ledger's table, as SCHEMA.NAME.
        exists: Whether there is such a table.
    """

    head: str | None
    ran: bool
    table: str
    exists: bool = True


class ExecFailureReason(StrEnum):
    """Why the ledger may not hold what was expected; the value is the name of the log event."""

    COMMAND_FAILED = "command_failed"
    """The command failed, or took too long."""
    BEHIND = "behind"
    """The command succeeded, but the ledger lacks something."""
    WRITTEN_ELSEWHERE = "written_elsewhere"
    """The command succeeded, but it wrote a ledger other than the one that was read."""
    OCCUPIED = "occupied"
    """A session that our lock does not exclude may be migrating."""
    DIALECT_UNKNOWN = "dialect_unknown"
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
            reporter: Reports waits, and what is found.
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
                command ran, and the command was ended.
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
            table = location.table
            source = replace(self._run.source, dialect=location.dialect, schema=table.schema, table=table.name)
            run = replace(self._run, source=source)
            if self._succeeded:  # the connection was lost after the command had ended
                return await self._check_result(run, location, session, None)
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
        if self._options.expected is None or not self._options.skip_when_complete:
            return None
        return self._already_complete(run, await read_ledger(session, run.source, limit=READ_TIMEOUT))

    def _already_complete(self, run: RunOptions, ledger: Ledger) -> ExecSuccess | None:
        expected = self._options.expected if self._options.skip_when_complete else None
        if expected is None or not ledger.is_complete_for(expected):
            return None
        return ExecSuccess(ledger.head, ran=False, table=_table(run))

    async def _run_under_lock(self, run: RunOptions, location: Location, session: Session) -> Outcome:
        """End what earlier runs left, read the ledger again, run the command, and check the result."""
        key = advisory_lock.lock_key(location.table.relation)
        keeper = None if location.dialect.row_lock is None else RowLockKeeper(session, location, self._reporter)

        # Before the ledger is read: the sessions that a killed run has left may still write it.
        async def end_orphans() -> Sequence[str]:
            named = await orphans.terminate_orphans(session, key)
            return named if named or keeper is None else await keeper.marks.end_sessions()

        orphans_left = await wait_until_empty(end_orphans, self._reporter, limit=run.lock_wait_timeout)
        if orphans_left:
            text = f"waited in vain for {'; '.join(map(str, orphans_left))}. {_ORPHAN_HINT}"
            return ExecFailure(ExecFailureReason.OCCUPIED, text)
        taken = keeper is not None and await keeper.report(clear=self._options.clear_stale_lock)
        if keeper is not None and taken and self._options.clear_stale_lock:
            occupied = await keeper.settle(end_orphans, limit=run.lock_wait_timeout)
            if occupied is not None:
                return ExecFailure(ExecFailureReason.OCCUPIED, occupied)
            taken = False
        ledger = await read_ledger(session, run.source, limit=READ_TIMEOUT)
        if (success := self._already_complete(run, ledger)) is not None:
            return success
        if ledger.dirty is not None:
            text = f"{ledger.dirty.revision} is {ledger.dirty.state} in the ledger, but no run holds our lock"
            self._reporter.info("dirty", text, revision=ledger.dirty.revision)
        environment = orphans.marked_environment(os.environ, key, location.dialect.name)
        watch = None if keeper is None or taken else await self._begin_watch(run, location, session, keeper.marks)
        # Where this ledger is empty, the tool may keep it under another name.
        others = None if ledger.records else await read_fingerprints(session, location)
        failure = await self._run_child(session, environment, watch)
        self._child = None
        if watch is not None:
            await finish_quietly(watch)
        if failure is not None:
            if keeper is not None:
                with suppress(DatabaseError):
                    await keeper.report(clear=False)
            return failure
        self._succeeded = True
        return await self._check_result(run, location, session, others)

    async def _begin_watch(
        self, run: RunOptions, location: Location, session: Session, marks: MarkTable
    ) -> LockWatch | None:
        """Begin to watch the lock row; return None where no mark can be left, which --clear-stale-lock needs."""
        mark = orphans.session_mark(advisory_lock.lock_key(location.table.relation))
        watch = LockWatch(session, location, marks, mark, asyncio.get_running_loop().time)
        try:
            await watch.begin(run.applied_by)
        except StatementFailed as error:
            if self._options.clear_stale_lock:
                text = f"no mark of this run can be left in {marks}, so that --clear-stale-lock could not free its lock"
                self._reporter.info("mark_missing", f"{text}: {error}")
            return None
        return watch

    async def _run_child(
        self, session: Session, environment: Mapping[str, str], watch: LockWatch | None
    ) -> ExecFailure | None:
        """Run the command for as long as the session holds the lock, and no longer."""
        options = self._options
        self._child = ChildProcess(options.command, environment, grace_period=_CHILD_GRACE_PERIOD)
        child_ended = asyncio.Event()
        child = asyncio.ensure_future(self._child.run())
        heartbeat = asyncio.ensure_future(_is_session_lost(session, child_ended, watch))
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

    async def _check_result(
        self, run: RunOptions, location: Location, session: Session, others: Fingerprints | None
    ) -> Outcome:
        """Read the ledger and compare it with what is expected.

        Args:
            run: The ledger.
            location: Where it was before the command.
            session: Any session.
            others: The tool's ledgers before the command, where this one was empty; else None.
        """
        reader, expected = LedgerReader(session, run.source), self._options.expected
        ledger = await reader.read(limit=READ_TIMEOUT)
        if expected is not None and ledger.is_complete_for(expected):
            return ExecSuccess(ledger.head, ran=True, table=_table(run))
        if others is not None and not ledger.records:
            written = changed_elsewhere(location, others, await read_fingerprints(session, location))
            if written is not None:
                text = (
                    f"the command wrote the ledger {written}, but {_table(run)} was read; --schema and --table name it"
                )
                return ExecFailure(ExecFailureReason.WRITTEN_ELSEWHERE, text)
        if expected is None:
            exists = reader.location is not None and reader.location.exists
            return ExecSuccess(ledger.head, ran=True, table=_table(run), exists=exists)
        missing = describe_missing(expected, ledger, self._options.names)
        text = f"the command succeeded, but the ledger {_table(run)} does not hold what was expected: {missing}"
        return ExecFailure(ExecFailureReason.BEHIND, text)


def _table(run: RunOptions) -> str:
    return f"{run.source.schema}.{run.source.table}"


async def _is_session_lost(session: Session, ended: asyncio.Event, watch: LockWatch | None) -> bool:
    """Check the session until the command has ended or the session is lost, and return whether it is lost.

    A session is lost when it is closed or does not answer; or when another backend answers, because a pooler has
    replaced the server connection: then the lock is gone, although the session seems to live. Between the checks, the
    session serves the watch over the command.
    """
    session.on_close(ended.set)
    clock = asyncio.get_running_loop().time
    checked_at = -HEARTBEAT_INTERVAL
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(watch.interval if watch else HEARTBEAT_INTERVAL):
                await ended.wait()
        if ended.is_set():
            return session.closed
        try:
            async with asyncio.timeout(HEARTBEAT_TIMEOUT):
                if clock() - checked_at >= HEARTBEAT_INTERVAL:
                    if await session.fetch_value("select pg_backend_pid()") != session.lock_pid:
                        return True
                    checked_at = clock()
                if watch is not None:
                    await watch.look()
        except (DatabaseError, TimeoutError):
            return True
