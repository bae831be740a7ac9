"""Waits for a revision to be in the ledger: on NOTIFY at once, else by polling; outages are waited out."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrations.core.ledger import History, State
from migrations.core.snapshot import Fault
from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres.errors import DatabaseError
from migrations.reader.watcher import LedgerWatcher, PollIntervals
from migrations.runner.status import read_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.ledger import Ledger
    from migrations.core.revision import Revision
    from migrations.core.snapshot import LedgerSnapshot
    from migrations.runner.run import Reporter, RunOptions

REPORT_INTERVAL = 10.0
"""Seconds between two lines that say what is waited for."""
POLL_INTERVALS = PollIntervals(slowest=2.0)
"""How often the ledger is read while nobody announces anything: a standby, for one, cannot listen."""
_ASKING = 3.0  # seconds for the question who holds the lock
_SHOWN = 5  # names of missing revisions in one line


@dataclass(frozen=True, slots=True)
class NotReached:
    """What was waited for in vain.

    Attributes:
        text: What the ledger lacks, or why it could not be read, and who is at work.
        unreachable: Whether the ledger could not be read in the end.
    """

    text: str
    unreachable: bool


async def wait_for_revision(
    run: RunOptions, expected: Revision, report: Reporter, *, limit: float, names: Sequence[str] = ()
) -> NotReached | None:
    """Wait until the ledger holds `expected` and, in its long form, all that must have come before it.

    Args:
        job: Which ledger.
        expected: The revision.
        report: Told every ten seconds what is missing and who is at work.
        limit: Seconds to wait at most; with 0 the ledger is read once.
        names: The revisions that we know, in order, to name what is missing.

    Returns:
        None as soon as the ledger holds it, else what was missing when the time was up.
    """
    clock = asyncio.get_running_loop().time
    deadline, told_at = clock() + limit, -REPORT_INTERVAL + clock()
    news, faults = asyncio.Event(), [""]
    watcher = LedgerWatcher(
        run.source,
        on_change=lambda _: news.set(),
        on_fault=lambda _, words: faults.append(words),
        pace=POLL_INTERVALS,
        application_name=f"ledgergate {run.applied_by} waits",
    )
    task = asyncio.create_task(watcher.run())
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done():
            news.clear()
            if _holds(watcher.snapshot, expected):
                return None
            known = watcher.snapshot.fault is not Fault.UNREAD
            end = (
                deadline if known else deadline + POLL_INTERVALS.timeout
            )  # one look at least, even with no time to wait
            if clock() >= end:
                return await _lack(run, expected, names, watcher.snapshot, faults[-1])
            if known and clock() >= told_at + REPORT_INTERVAL:
                told_at = clock()
                lack = await _lack(run, expected, names, watcher.snapshot, faults[-1])
                report.info("waiting_for", f"waiting for {expected.name}: {lack.text}", revision=expected.name)
                continue  # there may be news by now
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(end, told_at + REPORT_INTERVAL) if known else end):
                    await news.wait()
        await task
        raise RuntimeError("the watcher ended, and without an error")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def describe_missing(expected: Revision, ledger: Ledger, names: Sequence[str]) -> str:
    """Say what the ledger lacks of a revision.

    Args:
        expected: The revision that is waited for.
        ledger: What is recorded.
        names: The revisions that we know, in order; they may be none.
    """
    key = ledger.versioning.key
    ours = [key(name) for name in names]
    end = ours.index(key(expected.name)) + 1 if key(expected.name) in ours else 0
    # Of a tool that keeps heads alone, what is below a head is not known.
    known = () if ledger.history is History.HEADS else names[:end]
    absent = [name for name in known if not ledger.contains(name)]
    if absent:
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        text = f"missing {', '.join(absent[:_SHOWN])}{more}"
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


async def _lack(
    run: RunOptions, expected: Revision, names: Sequence[str], snapshot: LedgerSnapshot, error: str
) -> NotReached:
    if snapshot.fault is not None or snapshot.ledger is None:
        return NotReached(f"the ledger cannot be read: {error or snapshot.fault or Fault.UNREAD}", unreachable=True)
    text = describe_missing(expected, snapshot.ledger, names)
    with suppress(DatabaseError, LedgerUnreadable, TimeoutError):
        async with asyncio.timeout(_ASKING):
            holder = (await read_status(replace(run, connect_timeout=_ASKING))).holder
            text += f"; the lock is held by {holder}" if holder else "; nobody is migrating now"
    return NotReached(text, unreachable=False)
