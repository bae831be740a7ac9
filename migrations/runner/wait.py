"""`wait`: waits until the ledger holds a revision, also through outages of the database."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrations.core.ledger import History, State
from migrations.core.snapshot import Fault
from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres.errors import DatabaseError
from migrations.reader.status import read_status
from migrations.reader.watcher import LedgerWatcher, PollIntervals
from migrations.runner.locked_session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.ledger import Ledger
    from migrations.core.revision import Revision
    from migrations.core.snapshot import LedgerSnapshot
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import RunOptions

REPORT_INTERVAL = 10.0
"""Seconds between two reports of what a command waits for."""
_POLL_INTERVALS = PollIntervals(slowest=2.0, unreadable_slowest=5.0)
"""Shorter than the controller's: here something waits all the time, and a standby, for example, sends no NOTIFY."""
_HOLDER_TIMEOUT = 3.0  # seconds to find out who holds the lock, for a report
_MAX_NAMES = 5  # missing revisions that a report names


@dataclass(frozen=True, slots=True)
class WaitTimedOut:
    """The ledger did not hold the revision in time.

    Attributes:
        text: What the ledger lacks, or why it could not be read, and who migrates.
        unreachable: Whether the ledger could not be read when the time was up.
        no_ledger: Whether that is because the table is not a ledger, or what it holds cannot be read.
    """

    text: str
    unreachable: bool
    no_ledger: bool = False


async def wait_for_revision(
    run: RunOptions, expected: Revision, reporter: Reporter, *, limit: float, names: Sequence[str] = ()
) -> WaitTimedOut | None:
    """Wait until the ledger holds `expected` and, in its long form, all that must have come before it.

    Args:
        run: The ledger.
        expected: The revision.
        reporter: Reports every ten seconds what is missing and who migrates.
        limit: Seconds to wait at most; with 0 the ledger is read once.
        names: The known revisions, in order, for naming what is missing; may be empty.

    Returns:
        None as soon as the ledger holds the revision.
    """
    clock = asyncio.get_running_loop().time
    deadline, next_report = clock() + limit, clock()
    changed, faults = asyncio.Event(), [""]
    watcher = LedgerWatcher(
        run.source,
        on_change=lambda _: changed.set(),
        on_fault=lambda _, message: faults.append(message),
        intervals=_POLL_INTERVALS,
        application_name=f"ledgergate {run.applied_by} waits",
    )
    task = asyncio.create_task(watcher.run())
    task.add_done_callback(lambda _: changed.set())
    try:
        while not task.done():
            changed.clear()
            if _holds(watcher.snapshot, expected):
                return None
            was_read = watcher.snapshot.fault is not Fault.UNREAD
            # The first read is waited for even with a limit of 0.
            end = deadline if was_read else deadline + _POLL_INTERVALS.timeout
            if clock() >= end:
                return await _describe_wait(run, expected, names, watcher.snapshot, faults[-1])
            if was_read and clock() >= next_report:
                next_report = clock() + REPORT_INTERVAL
                status = await _describe_wait(run, expected, names, watcher.snapshot, faults[-1])
                reporter.info("waiting_for", f"waiting for {expected.name}: {status.text}", revision=expected.name)
                continue  # the snapshot may have changed meanwhile
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(end, next_report) if was_read else end):
                    await changed.wait()
        await task
        raise RuntimeError("the watcher ended without an error")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def describe_missing(expected: Revision, ledger: Ledger, names: Sequence[str]) -> str:
    """Return what the ledger lacks of a revision, as a clause of a sentence.

    Args:
        expected: The revision that is waited for.
        ledger: The ledger.
        names: The known revisions, in order; may be empty.
    """
    key = ledger.versioning.key
    keys = [key(name) for name in names]
    end = keys.index(key(expected.name)) + 1 if key(expected.name) in keys else 0
    # A tool that records only heads does not show what is below a head.
    required = () if ledger.history is History.HEADS else names[:end]
    missing = [name for name in required if not ledger.contains(name)]
    if missing:
        more = f" and {len(missing) - _MAX_NAMES} more" if len(missing) > _MAX_NAMES else ""
        text = f"missing {', '.join(missing[:_MAX_NAMES])}{more}"
    elif ledger.contains(expected.name):
        text = f"{expected.name} is applied, but not everything that must come before it"
    else:
        text = f"{expected.name} is not applied"
    dirty = ledger.dirty
    if dirty is not None and dirty.state is State.FAILED:
        text += f"; {dirty.revision} failed{f': {dirty.error}' if dirty.error else ''}"
    elif dirty is not None:
        text += f"; {dirty.revision} was begun{f' by {dirty.applied_by}' if dirty.applied_by else ''} and has not ended"
    return f"{text}; the head is {ledger.head or 'none'}"


def _holds(snapshot: LedgerSnapshot, expected: Revision) -> bool:
    return snapshot.ledger is not None and snapshot.ledger.is_complete_for(expected)


async def _describe_wait(
    run: RunOptions, expected: Revision, names: Sequence[str], snapshot: LedgerSnapshot, error: str
) -> WaitTimedOut:
    if snapshot.fault is not None or snapshot.ledger is None:
        text = f"the ledger cannot be read: {error or snapshot.fault or Fault.UNREAD}"
        if snapshot.fault is Fault.PERMISSION:
            text += await _describe_right(run, error)
        return WaitTimedOut(text, unreachable=True, no_ledger=snapshot.fault is Fault.LEDGER)
    text = describe_missing(expected, snapshot.ledger, names)
    if snapshot.missing_table:
        text += f" (the table {snapshot.missing_table} does not exist)"
    with suppress(DatabaseError, LedgerUnreadable, TimeoutError):
        async with asyncio.timeout(_HOLDER_TIMEOUT):
            async with open_session(replace(run, connect_timeout=_HOLDER_TIMEOUT)) as session:
                holder = (await read_status(session, run.source)).holder
            text += f"; the lock is held by {holder}" if holder else "; no migration runs now"
    return WaitTimedOut(text, unreachable=False)


async def _describe_right(run: RunOptions, error: str) -> str:
    from migrations.reader.rights import describe_missing_right  # noqa: PLC0415 - rare

    with suppress(DatabaseError, TimeoutError):
        async with (
            asyncio.timeout(_HOLDER_TIMEOUT),
            open_session(replace(run, connect_timeout=_HOLDER_TIMEOUT)) as session,
        ):
            return await describe_missing_right(session, error, ledger=run.source.table or run.source.dialect.table)
    return ""
