"""Runs another migration tool under our lock: one at a time, however the tool locks by itself."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.dialects.catalogue import AUTO
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
    from migrations.runner.run import LockTimeout, Reporter, RunOptions

BEAT = 3.0
"""Seconds between two looks whether the session that holds the lock is alive."""
ANSWER = 10.0
"""Seconds that the answer may take. With `BEAT` and the child's grace less than the 25 s after which the server gives a
silent client up, see `runner.SETTINGS`: the tool is dead before anybody else can get the lock."""
_CHILDS_GRACE = 8.0
_LOOK = 0.2  # seconds between two looks for sessions that are waited for

_REMAINS = "Our role may not end it: wait, or end it as its own role, by pg_terminate_backend"
_NAMELESS = (
    "expected --dialect to name the tool whose ledger the command writes: the lock belongs to that ledger, and neither "
    "the command nor a table of the database tells which it is"
)


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """What is to be run.

    Attributes:
        command: The program and its arguments.
        expected: What the ledger must hold afterwards, and need not be run for when it holds it already; None: run the
            command in any case, and believe it.
        names: Every migration of the image in order, to name what is missing; they may be none.
        clear_stale_lock: Whether to free a row lock that nobody alive can own.
        limit: Seconds that the command may run; None for no limit.
    """

    command: Sequence[str]
    expected: Revision | None = None
    names: Sequence[str] = ()
    clear_stale_lock: bool = False
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """All is done.

    Attributes:
        head: Of the ledger.
        ran: Whether the command had to be run.
    """

    head: str | None
    ran: bool


class Cause(StrEnum):
    """Why the ledger may not be where it was wanted."""

    COMMAND = "command_failed"
    """The command failed, or could not be started."""
    BEHIND = "behind"
    """The command succeeded, and the ledger lacks something all the same."""
    OCCUPIED = "occupied"
    """Somebody may be at work whom our lock does not keep out."""
    NAMELESS = "nameless"
    """Nobody can tell which tool's ledger it is about, so there is no lock to take."""


@dataclass(frozen=True, slots=True)
class ExecFailure:
    """Something is not done.

    Attributes:
        cause: What kind of thing is wrong.
        text: What, and what to do.
        code: The command's exit code, or minus the signal that ended it; None where it has not failed.
    """

    cause: Cause
    text: str
    code: int | None = None


Outcome = Complete | ExecFailure


class Execution:
    """One `exec`, over as many connections as it needs."""

    def __init__(self, run: RunOptions, order: ExecOptions, report: Reporter) -> None:
        """Prepare; `run` does the work.

        Args:
            job: Which ledger, and how long to try; its dialect may be `auto`.
            order: What to run.
            report: Told what goes on.
        """
        self._run = run
        self._order = order
        self._report = report
        self._child: ChildProcess | None = None
        self._succeeded = False

    def forward(self, number: signal.Signals) -> bool:
        """Send a signal that we got to the command; False when it does not run (any more)."""
        if self._child is None:
            return False
        self._child.stop(number)
        return True

    async def run(self) -> Outcome | LockTimeout:
        """Take the lock, run the command, and see that the ledger holds what was expected.

        Raises:
            ChildError: The command cannot be started.
            DatabaseError: The database cannot be reached in time, or not used; or the lock was lost while the command
                ran, which has been ended.
            LedgerUnreadable: The table is no ledger of the dialect.
        """
        process.require_program(self._order.command)
        for attempt in range(1, MAX_LOST_CONNECTIONS + 1):
            try:
                return await self._attempt()
            except ConnectionLost as error:
                if self._child is not None or attempt == MAX_LOST_CONNECTIONS:
                    raise
                self._report.info("connection_lost", f"{error}; connecting again")
        raise AssertionError  # the last attempt returns or raises

    async def _attempt(self) -> Outcome | LockTimeout:
        async with open_session(self._run) as connected:
            location = await locate_ledger(connected, self._run.source, limit=READ_TIMEOUT)
            if location.dialect is AUTO:
                return ExecFailure(Cause.NAMELESS, _NAMELESS)
            table = location.table
            source = replace(self._run.source, dialect=location.dialect, schema=table.schema, table=table.name)
            run = replace(self._run, source=source)
            if self._succeeded:
                return self._judge(await read_ledger(connected, source, limit=READ_TIMEOUT))
            if (done := await self._settled(run, connected)) is not None:
                return done  # over one connection, however many pods come late

        async def settled(connected: Session) -> Outcome | None:
            return await self._settled(run, connected)

        async def work(connected: Session) -> Outcome:
            return await self._work(run, location, connected)

        return await run_under_lock(run, self._report, work, settled)

    async def _settled(self, run: RunOptions, connected: Session) -> Complete | None:
        """Without a lock: is there anything to do?"""
        if self._order.expected is None:
            return None
        return self._complete(await read_ledger(connected, run.source, limit=READ_TIMEOUT))

    def _complete(self, ledger: Ledger) -> Complete | None:
        expected = self._order.expected
        done = expected is not None and ledger.is_complete_for(expected)
        return Complete(ledger.head, ran=False) if done else None

    async def _work(self, run: RunOptions, location: Location, connected: Session) -> Outcome:
        """Under the lock: clear the way, read again, run the command, and read what it has done."""
        key = advisory_lock.lock_key(location.table.relation)
        if left := await self._outwait(lambda: orphans.terminate_orphans(connected, key), run.lock_wait_timeout):
            return ExecFailure(Cause.OCCUPIED, f"still there: {_listed(left)}. {_REMAINS}")
        ledger = await read_ledger(connected, run.source, limit=READ_TIMEOUT)
        if (done := self._complete(ledger)) is not None:
            return done
        if ledger.dirty is not None:
            text = f"{ledger.dirty.revision} is {ledger.dirty.state} in the ledger, and nobody runs it under our lock"
            self._report.info("dirty", text, revision=ledger.dirty.revision)
        if (owners := await self._free_row_lock(run, location, connected)) is not None:
            return owners
        broken = await self._run_child(connected, orphans.marked_environment(os.environ, key, location.dialect.name))
        self._child = None
        if broken is not None:
            with suppress(DatabaseError):
                await self._tell_row_lock(connected, location)
            return broken
        self._succeeded = True
        return self._judge(await read_ledger(connected, run.source, limit=READ_TIMEOUT))

    async def _free_row_lock(self, run: RunOptions, location: Location, connected: Session) -> ExecFailure | None:
        """Tell of a row lock that is taken and, if we are to, wait until nobody alive can own it, and free it."""
        if not await self._tell_row_lock(connected, location) or not self._order.clear_stale_lock:
            return None
        if owners := await self._outwait(lambda: lock_table.clear_row_lock(connected, location), run.lock_wait_timeout):
            text = f"the row lock may have an owner who is alive: {_listed(owners)}. If it is not, {_by_hand(location)}"
            return ExecFailure(Cause.OCCUPIED, f"{text} frees it")
        self._report.info("row_lock_freed", "nobody alive can own it: freed")
        return None

    async def _outwait(self, look: Callable[[], Awaitable[Sequence[object]]], limit: float) -> Sequence[object]:
        """Look again and again until there is nobody; gives who is left when the time is up."""
        clock = asyncio.get_running_loop().time
        began, told = clock(), -REPORT_INTERVAL
        while left := await look():
            waited = clock() - began
            if waited >= limit:
                return left
            if waited - told >= REPORT_INTERVAL:
                told = waited
                self._report.info("outwaiting", f"waiting for the end of {left[0]}; {waited:.0f} s so far")
            await asyncio.sleep(_LOOK)
        return ()

    async def _tell_row_lock(self, connected: Session, location: Location) -> bool:
        taken = await read_row_lock(connected, location)
        if taken is None:
            return False
        holder = f" by {taken.holder}" if taken.holder else ""
        since = f" since {taken.since:%Y-%m-%d %H:%M:%S%z}" if taken.since else ""
        text = f"the row lock of {location.dialect.name} is taken{holder}{since}, though no run of ours holds it"
        if not self._order.clear_stale_lock:
            text += f"; --clear-stale-lock frees it where nobody alive can own it, {_by_hand(location)} in any case"
        self._report.info("row_lock_taken", text, holder=taken.holder)
        return True

    async def _run_child(self, connected: Session, environment: Mapping[str, str]) -> ExecFailure | None:
        """Run the command for as long as our session holds the lock, and no longer."""
        order = self._order
        self._child = ChildProcess(order.command, environment, grace=_CHILDS_GRACE)
        over = asyncio.Event()
        running = asyncio.ensure_future(self._child.run())
        watching = asyncio.ensure_future(_lost(connected, over))
        try:
            await asyncio.wait({running, watching}, timeout=order.limit, return_when=asyncio.FIRST_COMPLETED)
            in_time = running.done() or watching.done()
            if not running.done():
                self._child.stop()
            code = await running
            over.set()  # never in the middle of a question: what follows uses the same session
            lost, text = await watching, process.describe_exit(order.command, code)
        finally:
            for task in (running, watching):
                task.cancel()
            await asyncio.gather(running, watching, return_exceptions=True)
        if not in_time:
            return ExecFailure(Cause.COMMAND, f"{text}: it took longer than --timeout {order.limit:g}", code)
        if lost and code:
            raise ConnectionLost(f"{text}: the session that holds the lock was lost, and another run could begin")
        return ExecFailure(Cause.COMMAND, text, code) if code else None

    def _judge(self, ledger: Ledger) -> Outcome:
        expected = self._order.expected
        if expected is None or ledger.is_complete_for(expected):
            return Complete(ledger.head, ran=True)
        lack = describe_missing(expected, ledger, self._order.names)
        return ExecFailure(Cause.BEHIND, f"the command succeeded, but the ledger is not where it was expected: {lack}")


def _by_hand(location: Location) -> str:
    return f"`{location.dialect.row_lock.unlock_command}`" if location.dialect.row_lock else "the tool itself"


def _listed(left: Sequence[object]) -> str:
    return "; ".join(map(str, left))


async def _lost(connected: Session, over: asyncio.Event) -> bool:
    """Watch the session until it is over, and tell whether it was lost: gone, mute, or a pooler's other one."""
    connected.on_close(over.set)
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT):
                await over.wait()
        if over.is_set():
            return connected.closed
        try:
            async with asyncio.timeout(ANSWER):
                if await connected.value("select pg_backend_pid()") != connected.locked_by:
                    return True
        except (DatabaseError, TimeoutError):
            return True
