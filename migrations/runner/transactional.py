"""Sections that run inside a transaction, which also writes their row in the ledger: both are committed, or neither."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.revision import spellings
from migrations.files.positions import is_simple
from migrations.postgres.advisory_lock import application_name
from migrations.postgres.errors import ConnectionLost, MessageUnreadable, StatementFailed
from migrations.runner.ledger_writer import ENTRY_BEGINS, ENTRY_ENDS, RESET_ROLE, failed_in_entry
from migrations.runner.retry import is_transient, retry_attempts
from migrations.runner.section import MigrationFailed
from migrations.sql.statements import literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from migrations.files.psql_syntax import CopyBlock
    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import MigrationLimits
    from migrations.runner.section import Section

_SYNTAX_ERROR = "42601"
_MAY_END_TRANSACTION = re.compile(
    r"\b(commit|rollback|abort|prepare\s+transaction)\b|\bend\s*(;|\Z|work|transaction|and)", re.IGNORECASE
)
_END_KINDS = frozenset(("COMMIT", "ROLLBACK", "PREPARE"))


async def run_section(
    session: Session, writer: LedgerWriter, section: Section, ledger_statement: str, reporter: Reporter
) -> None:
    """Run a section and its ledger statement in one transaction, retrying transient failures; then reset the session.

    Args:
        session: The session that holds the lock.
        writer: The ledger.
        section: What to run.
        ledger_statement: Records the migration, or removes its record; from `LedgerWriter.guarded_statement`.
        reporter: Reports each retry.

    Raises:
        MigrationFailed: The section failed and is rolled back.
        DatabaseError: The connection was lost, or the ledger cannot be written.
    """
    limits = writer.limits.for_section(section.body)
    set_limits = _set_local(session, limits, writer.limits)
    ledger_statement = RESET_ROLE + ledger_statement
    if section.body.sql is None:
        attempt = _python_attempt(session, writer, section, set_limits, ledger_statement)
    else:
        if (found := find_transaction_end(section.body.sql)) is not None:
            raise section.transaction_end_error(*found)
        attempt = _sql_attempt(session, writer, section, set_limits, ledger_statement)
    await retry_attempts(section, limits, attempt, reporter)


def _sql_attempt(
    session: Session, writer: LedgerWriter, section: Section, set_limits: str, ledger_statement: str
) -> Callable[[], Awaitable[None]]:
    """Return a function that sends all from BEGIN to COMMIT, and the reset of the session, as one simple Query message.

    One message is one round trip, and the server skips the rest of it after an error. So no failure of the section, and
    no death of this process, can separate the section from its row.
    Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT

    There are two exceptions, in the same transaction. Rows of COPY are sent between two messages. And a section that
    seems to end in a string or a comment would swallow what follows it, so it is sent alone: the server reports the
    error, with its own position, and where there is none, the ledger statement follows.
    """
    sql = section.body.sql or ""
    blocks, closed = _find_parts(sql)
    # Each migration begins in a session like new. What precedes it needs no answer, so the reset costs no round trip.
    reset = session.reset_statements(lock_is_held=True)
    end = f"{ENTRY_BEGINS}{ledger_statement};{ENTRY_ENDS}commit;\n{reset}"
    sender = _Sender(session, writer, section)

    async def attempt() -> None:
        begin = f"{set_application_name(session, writer, section)}; begin deferrable; {set_limits}"
        position, prefix = 0, begin
        for block in blocks:
            await sender.send(prefix, position, block.begin)
            await sender.copy(block)
            position, prefix = block.next, ""
        if closed:
            # The newline ends a `--` comment in the section's last line.
            await sender.send(prefix, position, len(sql), f"\n;{end}")
        else:
            await sender.send(prefix, position, len(sql))
            await sender.send("", len(sql), len(sql), end)

    return attempt


def _find_parts(sql: str) -> tuple[tuple[CopyBlock, ...], bool]:
    """Return each COPY with rows of a script, and whether it ends outside of every string, comment and quoted name."""
    if is_simple(sql, len(sql)) and "\n\\." not in sql:
        return (), True  # nearly always, so the modules need not be imported
    from migrations.files.psql_syntax import find_copy_blocks, is_closed  # noqa: PLC0415

    return find_copy_blocks(sql), is_closed(sql)


def find_transaction_end(sql: str) -> tuple[int, str] | None:
    """Find the first statement of a script that ends the transaction it runs in, with or without `AND CHAIN`.

    Returns:
        Its offset in characters, and its text; None where there is none, or where the grammar rejects the script, as
        the server will.
    """
    if _MAY_END_TRANSACTION.search(sql) is None:
        return None  # nearly always, so the parser need not be imported
    from pglast import Error, parse_sql, split  # noqa: PLC0415

    from migrations.files.psql_syntax import blank_rows  # noqa: PLC0415

    sql = blank_rows(sql)
    try:
        for at in split(sql, only_slices=True):
            statement = parse_sql(sql[at])[0].stmt
            kind = getattr(getattr(statement, "kind", None), "name", "")
            if type(statement).__name__ == "TransactionStmt" and kind.removeprefix("TRANS_STMT_") in _END_KINDS:
                return at.start, " ".join(sql[at].split())
    except (Error, RecursionError):
        pass
    return None


@dataclass(frozen=True, slots=True)
class _Sender:
    """Sends parts of a section, and finds out what an error is about."""

    session: Session
    writer: LedgerWriter
    section: Section

    async def send(self, prefix: str, begin: int, end: int, suffix: str = "") -> None:
        """Send the part of the section from `begin` to `end`, with our own statements around it, as one message."""
        part = (self.section.body.sql or "")[begin:end]
        try:
            if prefix or suffix or _is_sendable(part):
                await self.session.execute(f"{prefix}{part}{suffix}")
        except StatementFailed as error:
            was_open = self.session.in_transaction
            is_entry = await self._end_attempt(error)
            if suffix and not was_open and await _is_recorded(self.session, self.writer, self.section):
                if isinstance(error, MessageUnreadable):
                    return  # it was a notice
                # The reset failed, after COMMIT: the next connection finds the migration as it is recorded.
                self.session.terminate()
                raise ConnectionLost(f"the session could not be reset after a migration: {error}") from error
            if error.position is None:
                if is_entry:
                    raise self.section.entry_error(error, self.writer.name) from error
                raise self.section.statement_error(error, self.section.only_statement(begin, end)) from error
            position = error.position - 1 - len(prefix)
            if position < len(part) or not suffix:
                position = min(max(0, position), len(part.rstrip()))
                raise self.section.statement_error(error, begin + position) from error
            if error.sqlstate == _SYNTAX_ERROR:  # our statements are correct, so it is what they follow that is not
                raise self.section.incomplete_error(error.sqlstate) from error
            raise self.section.entry_error(error, self.writer.name) from error

    async def copy(self, block: CopyBlock) -> None:
        """Run COPY ... FROM STDIN with its rows."""
        sql = self.section.body.sql or ""
        try:
            await self.session.copy_in(sql[block.begin : block.end], sql[block.rows_begin : block.rows_end])
        except StatementFailed as error:
            await self._end_attempt(error)
            raise self.section.statement_error(error, block.begin) from error

    async def _end_attempt(self, error: StatementFailed) -> bool:
        """End the attempt, and return whether its last message had reached the write to the ledger."""
        is_entry = await _end_attempt(self.session, error)
        if self.writer.is_failed_guard(error):
            raise self.section.ended_transaction_error() from error
        if self.writer.is_lock_lost(error):
            raise self.section.lost_lock_error() from error
        return is_entry


def _is_sendable(part: str) -> bool:
    """Return whether asyncpg takes it: it raises an AttributeError at comments alone, as there may be between COPY."""
    from migrations.files.psql_syntax import count_statements, is_closed  # noqa: PLC0415 - few migrations have COPY

    return bool(count_statements(part)) or not is_closed(part)


def _python_attempt(
    session: Session, writer: LedgerWriter, section: Section, set_limits: str, ledger_statement: str
) -> Callable[[], Awaitable[None]]:
    function = load_section_function(section)

    async def attempt() -> None:
        await session.execute(set_application_name(session, writer, section))
        try:
            async with session.transaction():
                if set_limits:
                    await session.execute(set_limits)
                await call_function(session, section, function)
                await _write_row(session, writer, section, ledger_statement)
        except StatementFailed as error:  # of COMMIT, which checks the deferred constraints
            raise section.statement_error(error, None) from error
        await session.reset()

    async def attempt_anew() -> None:
        try:
            await attempt()
        except MigrationFailed as error:
            if is_transient(error.sqlstate):
                await _end_attempt(session, error)
            raise

    return attempt_anew


async def _write_row(session: Session, writer: LedgerWriter, section: Section, ledger_statement: str) -> None:
    """Write to the ledger what a function has done."""
    if not session.in_transaction:
        raise section.ended_transaction_error()
    try:
        await session.execute(ledger_statement)
    except StatementFailed as error:
        # The function ended our transaction and began another one.
        if writer.is_failed_guard(error):
            raise section.ended_transaction_error() from error
        if writer.is_lock_lost(error):
            raise section.lost_lock_error() from error
        raise section.entry_error(error, writer.name) from error


async def _end_attempt(session: Session, error: Exception) -> bool:
    """Roll back, and make the session like new for another attempt: ROLLBACK keeps what PREPARE made, and locks.

    Returns:
        Whether a message had reached the write to the ledger, which the session does not show after its reset.
    """
    await session.rollback()
    if session.closed:
        raise ConnectionLost("the connection to the database was lost after a migration had failed") from error
    is_entry = await failed_in_entry(session)
    await session.reset()
    return is_entry


async def _is_recorded(session: Session, writer: LedgerWriter, section: Section) -> bool:
    """Return whether the ledger has what the section does: a row after an up, none after a down."""
    has_row = await session.fetch_value(writer.statement("recorded"), spellings(section.migration.revision))
    return bool(has_row) == (section.direction == "up")


def _set_local(session: Session, limits: MigrationLimits, default: MigrationLimits) -> str:
    """Return the statements that set, for one transaction, the limits in which a migration differs from the session."""
    if limits == default:
        return ""
    own = {
        name: value
        for name, value in limits.parameters.items()
        if value != default.parameters[name] and name in session.parameters
    }
    return "".join(f"set local {name} = {literal(value)}; " for name, value in own.items())


def set_application_name(session: Session, writer: LedgerWriter, section: Section) -> str:
    """Return what precedes a migration: it makes `pg_stat_activity`, and thereby other runs, show which one runs."""
    name = literal(application_name(writer.applied_by, section.migration.revision))
    return f"{session.refresh_parameters()}set application_name = {name}"


def load_section_function(section: Section) -> Callable[[object], Awaitable[None]]:
    """Load the function of a Python migration; to be called before anything is written.

    Raises:
        MigrationFailed: The module raised something.
    """
    from migrations.runner import python_module  # noqa: PLC0415 - few migrations are in Python

    try:
        return python_module.load_function(section.migration, section.direction)
    except BaseException as error:  # sys.exit() too: nothing here is awaited, so no cancellation can arrive
        raise MigrationFailed(python_module.describe_error(section.migration.path, error)) from error


async def call_function(session: Session, section: Section, function: Callable[[object], Awaitable[None]]) -> None:
    """Call the function of a Python migration with the asyncpg connection.

    Raises:
        MigrationFailed: The function raised something, closed the connection, or forked this process.
        ConnectionLost: The connection ended meanwhile.
    """
    from migrations.runner import python_module  # noqa: PLC0415 - as above

    path = section.migration.path
    task = asyncio.current_task()
    with python_module.watch_forks(path) as forks:
        try:
            await function(session.raw)
        except BaseException as error:
            # A cancellation is ours when it was asked for from outside (SIGTERM); any other is one of the migration.
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            if session.closed and not session.closed_at:
                message = f"the connection to the database was lost: {python_module.describe_error(path, error)}"
                raise ConnectionLost(message) from error
            if not session.closed:
                message = python_module.describe_error(path, error)
                raise MigrationFailed(message, str(getattr(error, "sqlstate", ""))) from error
    if forks:
        raise MigrationFailed(
            f"{path}:{forks[0]}: forked this process, and its copy would go on with the run on the same "
            "connection; the copy is ended: use `subprocess` or `multiprocessing` instead"
        )
    if session.closed_at:
        line = python_module.find_line(path, session.closed_at)
        raise MigrationFailed(
            f"{path}:{line}: closed the connection, in which the migration has to be recorded; leave it open, and open "
            "another one for what needs it"
        )
    if session.closed:
        raise ConnectionLost(f"the connection to the database was lost in {path}")
