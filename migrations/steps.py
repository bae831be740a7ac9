"""Carries out one migration, so that the ledger never says what did not happen.

Exception
└── StepFailed   a migration failed; what it did is rolled back, or its row says `failed`
"""

from __future__ import annotations

import sys
import time
import traceback
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from typing import TYPE_CHECKING

from migrations.database import ConnectionLost, DatabaseError, StatementFailed
from migrations.ledger import UNDOING, State
from migrations.statements import bind, load, quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from migrations.database import Session
    from migrations.files import Migration, Script

_SQL = load("ledgergate")


class StepFailed(Exception):  # noqa: N818 - says what happened
    """A migration failed; the message has file, line and the reason."""


@dataclass(frozen=True, slots=True)
class Book:
    """Where a run writes what it does.

    Attributes:
        schema: Of the ledger's table.
        table: Its name.
        batch: Number of the run.
        applied_by: Pod or host.
    """

    schema: str
    table: str
    batch: int
    applied_by: str

    def sql(self, name: str) -> str:
        """Give a statement of the native ledger for this table."""
        return bind(_SQL[name], table=quoted(self.schema, self.table), schema=quoted(self.schema))


async def prepare(session: Session, book: Book) -> None:
    """Create the ledger's table where it is missing; to be called under the lock."""
    if not await session.exists(quoted(book.schema, book.table)):
        if not await session.schema_exists(quoted(book.schema)):
            await session.execute(book.sql("create_schema"))
        await session.execute(book.sql("create"))


async def apply(session: Session, book: Book, migration: Migration) -> int:
    """Apply one migration and record it.

    Returns:
        How long it took, in milliseconds.

    Raises:
        StepFailed: It failed.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    work = _work(migration, "up", migration.up)
    started = time.monotonic()
    if not migration.up.transactional:
        async with _announced(session, book, migration):
            await work(session)
            if session.in_transaction:
                raise StepFailed(
                    f"{migration.path}: left a transaction open, and with it what it did; end it with COMMIT"
                )
        return _since(started)
    async with session.transaction():
        await work(session)
        if not session.in_transaction:
            raise StepFailed(
                f"{migration.path}: ended the transaction that it runs in, so part of it is applied and not recorded; "
                "undo that part by hand and take COMMIT and ROLLBACK out, or write `-- migrate:up transaction:false`"
            )
        elapsed = _since(started)
        await session.rows(book.sql("record"), *_identity(book, migration), elapsed)
    return elapsed


async def undo(session: Session, book: Book, migration: Migration, down: Script) -> int:
    """Undo one migration and take it off the ledger.

    Outside a transaction, its row says `running` first; what fails leaves `failed`, and the reason says that it was
    being undone.

    Returns:
        How long it took, in milliseconds.

    Raises:
        StepFailed: It failed.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    work = _work(migration, "down", down)
    started = time.monotonic()
    if not down.transactional:
        await session.rows(book.sql("begin_undo"), migration.revision, book.applied_by, UNDOING)
        async with _failure_recorded(session, book, migration, f"{UNDOING}: "):
            await work(session)
            if session.in_transaction:
                raise StepFailed(
                    f"{migration.path}: left a transaction open, and with it what it did; end it with COMMIT"
                )
        await session.rows(book.sql("remove"), migration.revision)
        return _since(started)
    async with session.transaction():
        await work(session)
        if not session.in_transaction:
            raise StepFailed(
                f"{migration.path}: ended the transaction that it runs in, so part of it is undone and still recorded; "
                "redo that part by hand and take COMMIT and ROLLBACK out, or write `-- migrate:down transaction:false`"
            )
        await session.rows(book.sql("remove"), migration.revision)
    return _since(started)


@asynccontextmanager
async def _announced(session: Session, book: Book, migration: Migration) -> AsyncIterator[None]:
    """Record `running` before the block and how it ended after it; a row that stays `running` tells of a kill."""
    await session.rows(book.sql("begin"), *_identity(book, migration))
    async with _failure_recorded(session, book, migration):
        yield
    await session.rows(book.sql("finish"), migration.revision, State.APPLIED, None)


@asynccontextmanager
async def _failure_recorded(
    session: Session, book: Book, migration: Migration, prefix: str = ""
) -> AsyncIterator[None]:
    """Record `failed` and why when the block raises."""
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, Exception) else f"interrupted ({type(error).__name__})"
        with suppress(DatabaseError):  # what stopped it matters more than that nobody could write it down
            if session.in_transaction:
                await session.execute("rollback")
            await session.rows(book.sql("finish"), migration.revision, State.FAILED, prefix + reason)
        raise


def _identity(book: Book, migration: Migration) -> tuple[object, ...]:
    return migration.revision, migration.checksum, book.batch, book.applied_by, migration.compatible_from


def _work(migration: Migration, section: str, script: Script) -> Callable[[Session], Awaitable[None]]:
    """Prepare everything that can fail before the database is touched."""
    if script.sql is None:
        return partial(_call, migration.path, _function(migration, section))
    statements = [(0, script.sql)] if script.transactional else _split(migration.path, script.line, script.sql)
    return partial(_execute, migration.path, script, statements)


async def _execute(path: Path, script: Script, statements: Sequence[tuple[int, str]], session: Session) -> None:
    for offset, statement in statements:
        try:
            await session.execute(statement)
        except StatementFailed as error:
            position = offset + (error.position or 1) - 1
            raise StepFailed(f"{path}:{_line(script.line, script.sql or '', position)}: {error}") from error


def _split(path: Path, line: int, sql: str) -> list[tuple[int, str]]:
    """Cut a script into statements, each with its offset.

    The server would run several of one message in one implicit transaction, which CREATE INDEX CONCURRENTLY refuses.
    Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
    """
    from pglast import Error, split  # noqa: PLC0415 - slow to import, and few migrations need it

    try:
        return [(piece.start, sql[piece]) for piece in split(sql, only_slices=True)]
    except Error as error:
        message, position = (*error.args, 0)[:2]
        raise StepFailed(f"{path}:{_line(line, sql, position)}: {message}") from error


async def _call(path: Path, function: Callable[[object], Awaitable[None]], session: Session) -> None:
    try:
        await function(session.raw)
    except Exception as error:
        if session.closed:
            raise ConnectionLost(f"the connection to the database was lost in {path}") from error
        raise StepFailed(_blame(path, error)) from error


def _function(migration: Migration, name: str) -> Callable[[object], Awaitable[None]]:
    """Load a Python migration by its path under a private name, leaving no bytecode beside it."""
    private = f"_ledgergate_migration_{migration.revision}"
    loader = SourceFileLoader(private, str(migration.path))
    module = module_from_spec(ModuleSpec(private, loader, origin=str(migration.path)))
    module.__file__ = str(migration.path)
    sys.modules[private] = module  # dataclasses and pickle look a class's module up
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    except Exception as error:
        raise StepFailed(_blame(migration.path, error)) from error
    finally:
        sys.dont_write_bytecode = writes
    function: Callable[[object], Awaitable[None]] = getattr(module, name)
    return function


def _blame(path: Path, error: Exception) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}"


def _line(first: int, text: str, position: int) -> int:
    return first + text.count("\n", 0, position)


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
