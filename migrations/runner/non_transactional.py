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


def split_section(section: Section) -> tuple[Statement, ...]:
    """Cut a section into its statements.

    Raises:
        StepFailed: PostgreSQL's grammar refuses it.
    """
    try:
        return split_statements(section.body.sql or "")
    except SplitError as error:
        raise MigrationFailed(f"{section.migration.path}:{section.line(error.position)}: {error}") from error


async def run_statements(
    session: Session,
    writer: LedgerWriter,
    section: Section,
    statements: Sequence[Statement],
    info: InfoCallback,
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
    walk = _StatementRunner(session, writer, section, statements, info, recorded)
    await session.execute(name_session(writer, section))
    for name, value in writer.limits.of(section.body).settings.items():
        await session.execute(f"set {name} = {literal(value)}")
    try:
        for statement in statements[:done]:
            if statement.nature is TransactionUse.SETTING:
                await walk.execute(statement.offset, statement.text)
        while done < len(statements):
            done = await walk.stretch(done)
        if session.in_transaction:
            raise section.left_open()
    except MigrationFailed:
        await session.abandon()
        raise
    await session.restore()


@dataclass(frozen=True, slots=True)
class _StatementRunner:
    session: Session
    writer: LedgerWriter
    section: Section
    statements: Sequence[Statement]
    info: InfoCallback
    recorded: bool

    async def stretch(self, done: int) -> int:
        """Carry out the next statement, or the next transaction of the file's own; give how many are done then."""
        end = done + 1
        if self.statements[done].nature is TransactionUse.BLOCK:
            ends = (
                n
                for n, statement in enumerate(self.statements[done:], done + 1)
                if statement.nature is TransactionUse.COMMIT
            )
            end = next(ends, len(self.statements))
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

        await retry_attempts(self.section, self.writer.limits.of(self.section.body), attempt, self.info)
        return end

    async def _one(self, number: int) -> None:
        statement = self.statements[number]
        if statement.nature is TransactionUse.LONE:
            await self._lone(statement, number)
        elif statement.nature is TransactionUse.PLAIN and not self.session.in_transaction:
            await self._plain(statement, number)
        elif statement.nature is TransactionUse.COMMIT and self.session.in_transaction and self.recorded:
            advance = f"{self._advance(number)};"
            await self.execute(statement.offset, statement.text, before=advance)
        else:
            await self.execute(statement.offset, statement.text)

    async def _plain(self, statement: Statement, number: int) -> None:
        if not self.recorded:
            await self.execute(statement.offset, statement.text)
            return
        try:
            await self.execute(
                statement.offset, statement.text, before="begin;", after=f"\n;{self._advance(number)};commit"
            )
        except MigrationFailed as error:
            await self.session.abandon()
            if error.sqlstate not in {_IN_TRANSACTION, _ENDS_TRANSACTION} or self.session.closed:
                raise
            await self._lone(statement, number)  # the server knows better than we do

    async def _lone(self, statement: Statement, number: int) -> None:
        if self.recorded:
            await self._note(self.writer.sql("expose", begun=number + 1, revision=self.section.migration.revision))
        try:
            await self._clear(statement)
            await self._unhurried(statement)
        except MigrationFailed:
            if (
                self.recorded
                and statement.atomic
                and statement.nature is TransactionUse.LONE
                and not self.session.closed
            ):
                await self._note(self._advance(number - 1))
            raise
        if self.recorded:
            await self._note(self._advance(number))

    async def _clear(self, statement: Statement) -> None:
        if statement.index is None:
            return
        try:
            dropped = await invalid_indexes.drop_invalid_indexes(self.session, statement.index)
        except StatementFailed as error:
            failure = f"an INVALID index of an interrupted CONCURRENTLY cannot be dropped: {error}"
            where = f"{self.section.migration.path}:{self.section.line(statement.offset)}"
            raise MigrationFailed(f"{where}: {failure}", error.sqlstate) from error
        for name in dropped:
            text = f"dropped {name}, an INVALID index that an interrupted CONCURRENTLY had left"
            self.info("leftover_dropped", text, revision=self.section.migration.revision, index=name)

    async def _unhurried(self, statement: Statement) -> None:
        """Let work on an index wait for old transactions: nobody has to wait for it, and a new try starts over.

        Source: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES, SHARE UPDATE EXCLUSIVE
        """
        own = self.section.body.lock_timeout is not None or any(
            other.nature is TransactionUse.SETTING and "lock_timeout" in other.text.lower() for other in self.statements
        )
        if statement.index is None or own:
            await self.execute(statement.offset, statement.text)
            return
        await self.session.execute("set lock_timeout = 0")
        await self.execute(statement.offset, statement.text)
        await self.session.execute(f"set lock_timeout = {literal(self.writer.limits.settings['lock_timeout'])}")

    async def execute(self, offset: int, text: str, before: str = "", after: str = "") -> None:
        try:
            await self.session.execute(f"{before}{text}{after}")
        except StatementFailed as error:
            raise self.section.failure(error, offset - len(before)) from error

    def _advance(self, number: int) -> str:
        return RESET_ROLE + self.writer.sql("advance", done=number + 1, revision=self.section.migration.revision)

    async def _note(self, sql: str) -> None:
        """Write to the ledger beside the statements, whatever role they have taken."""
        await self.session.execute(f"begin;{RESET_ROLE}{sql};commit")
