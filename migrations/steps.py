"""Carries out one migration, so that the ledger never says what did not happen.

See `task` for what it raises.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from migrations import atomic, piecewise
from migrations.book import Book, prepare
from migrations.database import DatabaseError
from migrations.ledger import UNDOING, State
from migrations.task import StepFailed, Task, silent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from migrations.database import Session
    from migrations.files import Migration, Script
    from migrations.resuming import Stopped
    from migrations.task import Say

__all__ = ["Book", "StepFailed", "apply", "prepare", "undo"]

_GOES_ON = (
    ". What came before it is done; up goes on there once the cause is gone. To change the file, settle it first: "
    "`ledgergate migrate resolve {revision} --rolled-back` or `--applied`"
)
_LAST_WORD = 1.0  # seconds to write down why a run ends


async def apply(
    session: Session, book: Book, migration: Migration, say: Say = silent, stopped: Stopped | None = None
) -> int:
    """Apply one migration and record it.

    Args:
        session: The one that holds the lock.
        book: Where to record.
        migration: Which.
        say: Told of what is tried again.
        stopped: Where to go on, when this migration was stopped before.

    Returns:
        How long it took, in milliseconds.

    Raises:
        StepFailed: It failed.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    task = Task(migration, migration.up, "up")
    started = time.monotonic()
    if migration.up.transactional:
        await atomic.run(session, book, task, book.entry("record", session, migration), say)
        return _since(started)
    if migration.up.sql is None:
        function = atomic.load(task)
        await session.rows(book.entry("begin", session, migration), None)
        async with _failure_recorded(session, book, migration):
            await session.execute(atomic.named(book, task))
            await atomic.call(session, task, function)
            if session.in_transaction:
                raise task.left_open()
        await session.restore()
    else:
        pieces = piecewise.cut_up(task)
        if stopped is None:
            await session.rows(book.entry("begin", session, migration), len(pieces))
        else:
            await session.execute(book.entry("resume", session, migration))
        try:
            async with _failure_recorded(session, book, migration):
                await piecewise.run(session, book, task, pieces, say, done=stopped.done if stopped else 0)
        except StepFailed as error:
            raise StepFailed(f"{error}{_GOES_ON.format(revision=migration.revision)}") from error
    await session.rows(book.sql("finish"), migration.revision, State.APPLIED, None)
    return _since(started)


async def undo(session: Session, book: Book, migration: Migration, down: Script, say: Say = silent) -> int:
    """Undo one migration and take it off the ledger.

    Outside a transaction, its row says `running` first; what fails leaves `failed`, and the reason says that it was
    being undone.

    Returns:
        How long it took, in milliseconds.

    Raises:
        StepFailed: It failed.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    task = Task(migration, down, "down")
    started = time.monotonic()
    if down.transactional:
        await atomic.run(session, book, task, book.entry("unrecord", session, migration), say)
        return _since(started)
    function = atomic.load(task) if down.sql is None else None
    pieces = () if function else piecewise.cut_up(task)
    await session.rows(book.sql("begin_undo"), migration.revision, book.applied_by, UNDOING)
    async with _failure_recorded(session, book, migration, f"{UNDOING}: "):
        if function is None:
            await piecewise.run(session, book, task, pieces, say, recorded=False)
        else:
            await atomic.call(session, task, function)
            if session.in_transaction:
                raise task.left_open()
            await session.restore()
    await session.rows(book.sql("remove"), migration.revision)
    return _since(started)


@asynccontextmanager
async def _failure_recorded(
    session: Session, book: Book, migration: Migration, prefix: str = ""
) -> AsyncIterator[None]:
    """Record `failed` and why when the block raises."""
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, Exception) else f"interrupted ({type(error).__name__})"
        # What stopped it matters more than that nobody could write it down.
        with suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD):
                await session.abandon()
                await session.execute("reset role")
                await session.rows(book.sql("finish"), migration.revision, State.FAILED, prefix + reason)
        raise


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
