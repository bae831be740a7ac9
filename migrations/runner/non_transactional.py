"""Carries out a section outside a transaction, statement by statement, so that whoever goes on knows where it stopped.

A statement that may run in a transaction commits together with its progress. One that may not (CREATE INDEX
CONCURRENTLY ...) is announced before it begins: who finds the announcement looks whether its effect is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.postgres.errors import ConnectionLost, StatementFailed
from migrations.runner import invalid_indexes
from migrations.runner.ledger_writer import RESET_ROLE
from migrations.runner.retry import is_transient
from migrations.runner.section import MigrationFailed
from migrations.runner.splitter import SplitError, TransactionUse, split_statements
from migrations.runner.transactional import name_session, retry_attempts
from migrations.sql.statements import literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.section import InfoCallback, Section
    from migrations.runner.splitter import Statement

_IN_TRANSACTION = "25001"  # active_sql_transaction
_ENDS_TRANSACTION = "2D000"  # invalid_transaction_termination


def split_section(task: Section) -> tuple[Statement, ...]:
    """Cut a section into its statements.

    Raises:
        StepFailed: PostgreSQL's grammar refuses it.
    """
    try:
        return split_statements(task.script.sql or "")
    except SplitError as error:
        raise MigrationFailed(f"{task.migration.path}:{task.line(error.position)}: {error}") from error


async def run_statements(
    session: Session,
    book: LedgerWriter,
    task: Section,
    pieces: Sequence[Statement],
    say: InfoCallback,
    *,
    done: int = 0,
    recorded: bool = True,
) -> None:
    """Carry out the statements after the first `done`, and set again what those have set for the session.

    Args:
        session: The one that holds the lock.
        book: Where the progress is written.
        task: The section.
        pieces: Its statements.
        say: Told of what is tried again, and of what is cleared away before.
        done: How many are done already.
        recorded: Whether the progress is written down.

    Raises:
        StepFailed: It failed; `atomic` progress is recorded, so it can go on there.
        DatabaseError: The connection was lost.
    """
    walk = _StatementRunner(session, book, task, pieces, say, recorded)
    await session.execute(name_session(book, task))
    for name, value in book.limits.of(task.script).settings.items():
        await session.execute(f"set {name} = {literal(value)}")
    try:
        for piece in pieces[:done]:
            if piece.nature is TransactionUse.SETTING:
                await walk.execute(piece.offset, piece.text)
        while done < len(pieces):
            done = await walk.stretch(done)
        if session.in_transaction:
            raise task.left_open()
    except MigrationFailed:
        await session.abandon()
        raise
    await session.restore()


@dataclass(frozen=True, slots=True)
class _StatementRunner:
    session: Session
    book: LedgerWriter
    task: Section
    pieces: Sequence[Statement]
    say: InfoCallback
    recorded: bool

    async def stretch(self, done: int) -> int:
        """Carry out the next statement, or the next transaction of the file's own; give how many are done then."""
        end = done + 1
        if self.pieces[done].nature is TransactionUse.BLOCK:
            ends = (n for n, piece in enumerate(self.pieces[done:], done + 1) if piece.nature is TransactionUse.COMMIT)
            end = next(ends, len(self.pieces))
        start = done

        async def attempt() -> None:
            nonlocal start
            try:
                for number in range(start, end):
                    await self._one(number)
                    if not self.session.in_transaction:
                        start = number + 1  # it is done, whatever happens to what follows
            except MigrationFailed as error:
                if is_transient(error.sqlstate):
                    await self.session.abandon()
                    if self.session.closed:
                        raise ConnectionLost(
                            "the connection to the database was lost after a statement failed"
                        ) from error
                raise

        await retry_attempts(self.task, self.book.limits.of(self.task.script), attempt, self.say)
        return end

    async def _one(self, number: int) -> None:
        piece = self.pieces[number]
        if piece.nature is TransactionUse.LONE:
            await self._lone(piece, number)
        elif piece.nature is TransactionUse.PLAIN and not self.session.in_transaction:
            await self._plain(piece, number)
        elif piece.nature is TransactionUse.COMMIT and self.session.in_transaction and self.recorded:
            advance = f"{self._advance(number)};"
            await self.execute(piece.offset, piece.text, before=advance)
        else:
            await self.execute(piece.offset, piece.text)

    async def _plain(self, piece: Statement, number: int) -> None:
        if not self.recorded:
            await self.execute(piece.offset, piece.text)
            return
        try:
            await self.execute(piece.offset, piece.text, before="begin;", after=f"\n;{self._advance(number)};commit")
        except MigrationFailed as error:
            await self.session.abandon()
            if error.sqlstate not in {_IN_TRANSACTION, _ENDS_TRANSACTION} or self.session.closed:
                raise
            await self._lone(piece, number)  # the server knows better than we do

    async def _lone(self, piece: Statement, number: int) -> None:
        if self.recorded:
            await self._note(self.book.sql("expose", begun=number + 1, revision=self.task.migration.revision))
        try:
            await self._clear(piece)
            await self._unhurried(piece)
        except MigrationFailed:
            if self.recorded and piece.atomic and piece.nature is TransactionUse.LONE and not self.session.closed:
                await self._note(self._advance(number - 1))
            raise
        if self.recorded:
            await self._note(self._advance(number))

    async def _clear(self, piece: Statement) -> None:
        if piece.index is None:
            return
        try:
            dropped = await invalid_indexes.drop_invalid_indexes(self.session, piece.index)
        except StatementFailed as error:
            failure = f"an INVALID index of an interrupted CONCURRENTLY cannot be dropped: {error}"
            where = f"{self.task.migration.path}:{self.task.line(piece.offset)}"
            raise MigrationFailed(f"{where}: {failure}", error.sqlstate) from error
        for name in dropped:
            text = f"dropped {name}, an INVALID index that an interrupted CONCURRENTLY had left"
            self.say("leftover_dropped", text, revision=self.task.migration.revision, index=name)

    async def _unhurried(self, piece: Statement) -> None:
        """Let work on an index wait for old transactions: nobody has to wait for it, and a new try starts over.

        Source: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES, SHARE UPDATE EXCLUSIVE
        """
        own = self.task.script.lock_timeout is not None or any(
            other.nature is TransactionUse.SETTING and "lock_timeout" in other.text.lower() for other in self.pieces
        )
        if piece.index is None or own:
            await self.execute(piece.offset, piece.text)
            return
        await self.session.execute("set lock_timeout = 0")
        await self.execute(piece.offset, piece.text)
        await self.session.execute(f"set lock_timeout = {literal(self.book.limits.settings['lock_timeout'])}")

    async def execute(self, offset: int, text: str, before: str = "", after: str = "") -> None:
        try:
            await self.session.execute(f"{before}{text}{after}")
        except StatementFailed as error:
            raise self.task.failure(error, offset - len(before)) from error

    def _advance(self, number: int) -> str:
        return RESET_ROLE + self.book.sql("advance", done=number + 1, revision=self.task.migration.revision)

    async def _note(self, sql: str) -> None:
        """Write to the ledger beside the statements, whatever role they have taken."""
        await self.session.execute(f"begin;{RESET_ROLE}{sql};commit")
