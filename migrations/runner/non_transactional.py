"""Sections that run outside a transaction, statement by statement, with their progress in the ledger.

A statement that may run in a transaction commits together with its progress. One that may not (CREATE INDEX
CONCURRENTLY ...) is announced in the ledger before it begins. After a crash, a run that finds the announcement decides
by the effect of the statement whether it ended; see `resume`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.revision import spellings
from migrations.files.psql_syntax import blank_rows, find_copy_blocks
from migrations.postgres.errors import ConnectionLost, MessageUnreadable, StatementFailed
from migrations.runner import invalid_indexes
from migrations.runner.ledger_writer import ENTRY_BEGINS, ENTRY_ENDS, RESET_ROLE, failed_in_entry
from migrations.runner.retry import is_transient, retry_attempts
from migrations.runner.section import MigrationFailed
from migrations.runner.splitter import SplitError, TransactionUse, split_statements
from migrations.runner.transactional import application_name_statements
from migrations.sql.statements import literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrations.files.psql_syntax import CopyBlock
    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.reporter import Reporter
    from migrations.runner.section import Section
    from migrations.runner.splitter import Statement

_IN_TRANSACTION = "25001"  # active_sql_transaction
_ENDS_TRANSACTION = "2D000"  # invalid_transaction_termination


def split_section(section: Section) -> tuple[Statement, ...]:
    """Split a section into its statements.

    Raises:
        MigrationFailed: PostgreSQL's grammar rejects the section.
    """
    try:
        return split_statements(blank_rows(section.body.sql or ""))
    except SplitError as error:
        raise MigrationFailed(f"{section.migration.path}:{section.line(error.position)}: {error}") from error


async def run_statements(
    session: Session,
    writer: LedgerWriter,
    section: Section,
    statements: Sequence[Statement],
    reporter: Reporter,
    *,
    done: int = 0,
    recorded: bool = True,
) -> None:
    """Run the statements of a section.

    Args:
        session: The session that holds the lock.
        writer: The ledger.
        section: The section.
        statements: Its statements, from `split_section`.
        reporter: Reports each retry, and each invalid index that is dropped.
        done: How many statements an earlier run has completed. Of these, only those that set parameters of the session
            run again.
        recorded: Whether to write the progress to the ledger.

    Raises:
        MigrationFailed: A statement failed. With recorded progress, a later run can continue at it if it is `atomic`.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    copies = {
        index: block
        for block in find_copy_blocks(section.body.sql or "")
        for index, statement in enumerate(statements)
        if statement.offset <= block.begin < statement.offset + len(statement.text)
    }
    runner = _StatementRunner(session, writer, section, statements, copies, reporter, recorded)
    await runner.set_parameters()
    try:
        # What precedes a DISCARD ALL need not be set again.
        discarded = max((number for number, at in enumerate(statements[:done], 1) if at.discards_all), default=0)
        for statement in statements[discarded:done]:
            if statement.transaction_use is TransactionUse.SESSION_SETTING:
                await runner.execute(statement)
        while done < len(statements):
            done = await runner.run_next(done)
        if session.in_transaction:
            raise section.open_transaction_error()
    except MigrationFailed:
        await session.rollback()
        raise
    await session.reset()


@dataclass(frozen=True, slots=True)
class _StatementRunner:
    session: Session
    writer: LedgerWriter
    section: Section
    statements: Sequence[Statement]
    copies: Mapping[int, CopyBlock]  # by index of the statement
    reporter: Reporter
    recorded: bool

    async def set_parameters(self) -> None:
        """Set the session's name and limits."""
        limits = self.writer.limits.for_section(self.section.body).parameters
        settings = [
            f"set {name} = {literal(value)}" for name, value in limits.items() if name in self.session.parameters
        ]
        await self.session.execute(
            "; ".join((application_name_statements(self.session, self.writer, self.section), *settings))
        )

    async def run_next(self, done: int) -> int:
        """Run the next statement, or the file's next transaction as a whole; return how many are done then."""
        end = done + 1
        if self.statements[done].transaction_use is TransactionUse.CONTROL:
            # A transaction of the file is retried from its BEGIN.
            ends = (
                number
                for number, statement in enumerate(self.statements[done:], done + 1)
                if statement.transaction_use is TransactionUse.COMMIT
            )
            end = next(ends, len(self.statements))
        start = done

        async def attempt() -> None:
            nonlocal start
            try:
                for index in range(start, end):
                    await self._run_statement(index)
                    if not self.session.in_transaction:
                        start = index + 1  # committed: a retry of what follows must not repeat it
            except MigrationFailed as error:
                if is_transient(error.sqlstate):
                    await self.session.rollback()
                    if self.session.closed:
                        message = "the connection to the database was lost after a statement failed"
                        raise ConnectionLost(message) from error
                raise

        await retry_attempts(self.section, self.writer.limits.for_section(self.section.body), attempt, self.reporter)
        return end

    async def _run_statement(self, index: int) -> None:
        statement = self.statements[index]
        if statement.transaction_use is TransactionUse.NON_TRANSACTIONAL:
            await self._run_alone(statement, index)
        elif statement.transaction_use is TransactionUse.TRANSACTIONAL and not self.session.in_transaction:
            await self._run_with_progress(statement, index)
        elif statement.transaction_use is TransactionUse.COMMIT and self.session.in_transaction and self.recorded:
            # The progress of the file's own transaction is written in it, immediately before its COMMIT.
            await self.execute(statement, before=self._progress_statement(index + 1))
        else:
            await self.execute(statement)

    async def _run_with_progress(self, statement: Statement, index: int) -> None:
        """Run a statement in one transaction with its progress."""
        if not self.recorded:
            await self.execute(statement)
            return
        try:
            await self.execute(statement, before="begin;", after=f"\n;{self._progress_statement(index + 1)}commit")
        except MigrationFailed as error:
            await self.session.rollback()
            if error.sqlstate not in {_IN_TRANSACTION, _ENDS_TRANSACTION} or self.session.closed:
                raise
            # The splitter does not recognise by its text every statement that must run alone; the server does.
            await self._run_alone(statement, index)

    async def _run_alone(self, statement: Statement, index: int) -> None:
        """Run a statement outside a transaction, between its announcement and its progress in the ledger."""
        if self.recorded:
            number, revision = index + 1, self.section.migration.revision
            await self._write_ledger(self.writer.statement("expose", begun=number, revision=revision), statement)
        try:
            await self._drop_invalid_indexes(statement)
            if statement.discards_all:
                # DISCARD ALL itself would let go of the ledger's lock.
                await self.session.reset()
                await self.set_parameters()
            else:
                await self._execute_alone(statement)
        except MigrationFailed:
            # An atomic statement that failed has no effect, so its announcement is withdrawn. A statement that the
            # server refused in a transaction is unknown to the splitter: it may not be atomic.
            is_known = statement.transaction_use is TransactionUse.NON_TRANSACTIONAL
            if self.recorded and statement.atomic and is_known and not self.session.closed:
                await self._write_ledger(self._progress_statement(index).removesuffix(";"), statement)
            raise
        if self.recorded:
            await self._write_ledger(self._progress_statement(index + 1).removesuffix(";"), statement)

    async def _drop_invalid_indexes(self, statement: Statement) -> None:
        if statement.index is None:
            return
        try:
            dropped = await invalid_indexes.drop_invalid_indexes(self.session, statement.index)
        except StatementFailed as error:
            reason = f"an INVALID index of an interrupted CONCURRENTLY cannot be dropped: {error}"
            location = f"{self.section.migration.path}:{self.section.line(statement.offset)}"
            raise MigrationFailed(f"{location}: {reason}", error.sqlstate) from error
        for name in dropped:
            text = f"dropped {name}, an INVALID index that an interrupted CONCURRENTLY had left"
            self.reporter.info("invalid_index_dropped", text, revision=self.section.migration.revision, index=name)

    async def _execute_alone(self, statement: Statement) -> None:
        """Execute a statement; one on an index runs without lock_timeout, unless the file sets one.

        CONCURRENTLY waits for old transactions with a lock that blocks neither reads nor writes, so waiting does not
        harm the application, while a timeout would throw away hours of work.
        Source: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES, SHARE UPDATE EXCLUSIVE
        """
        has_own_timeout = self.section.body.lock_timeout is not None or any(
            other.transaction_use is TransactionUse.SESSION_SETTING and "lock_timeout" in other.text.lower()
            for other in self.statements
        )
        if statement.index is None or has_own_timeout or "lock_timeout" not in self.session.parameters:
            await self.execute(statement)
            return
        await self.session.execute("set lock_timeout = 0")
        await self.execute(statement)
        await self.session.execute(f"set lock_timeout = {literal(self.writer.limits.parameters['lock_timeout'])}")

    async def execute(self, statement: Statement, before: str = "", after: str = "") -> None:
        """Execute a statement, in one message with the SQL before and after it, which writes its progress."""
        block = self.copies.get(self.statements.index(statement)) if self.copies else None
        try:
            if block is not None:
                await self._copy(block, before, after)
            else:
                await self.session.execute(f"{before}{statement.text}{after}")
        except StatementFailed as error:
            if self.writer.is_lock_lost(error):
                raise self.section.lost_lock_error(statement.offset) from error
            if isinstance(error, MessageUnreadable) and after and await self._is_recorded(statement):
                return  # what could not be decoded was a notice, and the statement is committed
            raise await self._statement_error(error, statement, before, after) from error

    async def _copy(self, block: CopyBlock, before: str, after: str) -> None:
        """Run COPY ... FROM STDIN, with the SQL before and after it in messages of their own."""
        sql = self.section.body.sql or ""
        if before:
            await self.session.execute(before)
        try:
            await self.session.copy_in(sql[block.begin : block.end], sql[block.rows_begin : block.rows_end])
        except StatementFailed as error:
            error.position = error.position and error.position + len(before)  # `_statement_error` subtracts it
            raise
        if after:
            await self.session.execute(after.removeprefix("\n;"))

    async def _is_recorded(self, statement: Statement) -> bool:
        """Return whether the ledger shows that a statement, sent together with its progress, is committed."""
        if self.session.in_transaction:
            return False
        async with self.session.transaction():
            await self.session.execute(RESET_ROLE)
            revision = self.section.migration.revision
            rows = await self.session.fetch(self.writer.statement("stopped"), spellings(revision))
        return bool(rows) and (rows[0]["statements_done"] or 0) > self.statements.index(statement)

    async def _statement_error(
        self, error: StatementFailed, statement: Statement, before: str, after: str
    ) -> MigrationFailed:
        position = None if error.position is None else error.position - 1 - len(before)
        if before or after:
            await self.session.rollback()
            if self.session.closed:
                return MigrationFailed(f"{self.section.migration.path}: {error}", error.sqlstate)
            is_entry = not -1 < position < len(statement.text) if position is not None else None
            if is_entry or (is_entry is None and await failed_in_entry(self.session)):
                return self.section.entry_error(error, self.writer.name, "so that statement is rolled back")
        return self.section.statement_error(error, statement.offset + max(0, position or 0))

    def _progress_statement(self, done: int) -> str:
        statement = self.writer.statement("advance", done=done, revision=self.section.migration.revision)
        return f"{ENTRY_BEGINS}{RESET_ROLE}{statement};{ENTRY_ENDS}"

    async def _write_ledger(self, sql: str, statement: Statement) -> None:
        try:
            await self.session.execute(f"begin;{RESET_ROLE}{sql};commit")
        except StatementFailed as error:
            await self.session.rollback()
            if self.writer.is_lock_lost(error):
                raise self.section.lost_lock_error(statement.offset) from error
            outcome = "so the ledger does not show how far it came"
            raise self.section.entry_error(error, self.writer.name, outcome) from error
