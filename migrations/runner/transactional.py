"""Sections that run inside a transaction, which also writes their row in the ledger: both are committed, or neither."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.files.psql_syntax import count_statements, find_copy_blocks, is_closed
from migrations.postgres.advisory_lock import application_name
from migrations.postgres.errors import ConnectionLost, MessageUnreadable, StatementFailed
from migrations.runner import python_module
from migrations.runner.ledger_writer import ENTRY_BEGINS, ENTRY_ENDS, RESET_ROLE, failed_in_entry
from migrations.runner.retry import retry_attempts
from migrations.runner.section import MigrationFailed
from migrations.runner.splitter import find_transaction_end
from migrations.sql.statements import literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from migrations.files.psql_syntax import CopyBlock
    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import MigrationLimits
    from migrations.runner.section import Section

_NOT_NULL_VIOLATION = "23502"
_SYNTAX_ERROR = "42601"
_MAY_CHANGE_SESSION = re.compile(r"\b(set|reset|set_config|discard)\b", re.IGNORECASE)


async def run_section(
    session: Session, writer: LedgerWriter, section: Section, ledger_statement: str, reporter: Reporter
) -> None:
    """Run a section and its ledger statement in one transaction, retrying transient failures.

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
    set_limits = _set_local(limits, writer.limits)
    ledger_statement = RESET_ROLE + ledger_statement
    if section.body.sql is None:
        attempt = _python_attempt(session, writer, section, set_limits, ledger_statement)
    else:
        if (found := find_transaction_end(section.body.sql)) is not None:
            raise section.transaction_end_error(*found)
        attempt = _sql_attempt(session, writer, section, set_limits, ledger_statement)
    await retry_attempts(section, limits, attempt, reporter)
    # Settings and role of one migration must not affect the next. Most SQL changes none, which saves two round trips.
    if section.body.sql is None or _MAY_CHANGE_SESSION.search(section.body.sql):
        await session.reset()


def _sql_attempt(
    session: Session, writer: LedgerWriter, section: Section, set_limits: str, ledger_statement: str
) -> Callable[[], Awaitable[None]]:
    """Return a function that sends BEGIN, the section, the ledger statement and COMMIT as one simple Query message.

    One message is one round trip, and the server skips the rest of it after an error. So no failure of the section, and
    no death of this process, can separate the section from its row.
    Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT

    There are two exceptions, in the same transaction. Rows of COPY are sent between two messages. And a section that
    seems to end in a string or a comment would swallow what follows it, so it is sent alone: the server reports the
    error, with its own position, and where there is none, the ledger statement follows.
    """
    sql = section.body.sql or ""
    blocks = find_copy_blocks(sql)
    begin = f"{set_application_name(writer, section)}; begin deferrable; {set_limits}"
    end = f"{ENTRY_BEGINS}{ledger_statement};{ENTRY_ENDS}commit"
    sender = _Sender(session, writer, section)

    async def attempt() -> None:
        position, prefix = 0, begin
        for block in blocks:
            await sender.send(prefix, position, block.begin)
            await sender.copy(block)
            position, prefix = block.next, ""
        if is_closed(sql):
            # The newline ends a `--` comment in the section's last line.
            await sender.send(prefix, position, len(sql), f"\n;{end}")
        else:
            await sender.send(prefix, position, len(sql))
            await sender.send("", len(sql), len(sql), end)

    return attempt


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
            # Between two COPY there may be comments only, and asyncpg raises an AttributeError at an empty message.
            if prefix or suffix or count_statements(part) or not is_closed(part):
                await self.session.execute(f"{prefix}{part}{suffix}")
        except StatementFailed as error:
            if isinstance(error, MessageUnreadable) and suffix and not self.session.in_transaction:
                return  # it was a notice: after an error, the transaction would still be open
            await self._roll_back(error)
            if error.position is None:
                if suffix and await failed_in_entry(self.session):
                    raise self.section.entry_error(error, self.writer.name) from error
                raise self.section.error(error, self.section.only_statement(begin, end)) from error
            position = error.position - 1 - len(prefix)
            if position < len(part) or not suffix:
                position = min(max(0, position), len(part.rstrip()))
                raise self.section.error(error, begin + position) from error
            if error.sqlstate == _SYNTAX_ERROR:  # our statements are correct, so it is what they follow that is not
                raise self.section.incomplete_error(error.sqlstate) from error
            raise self.section.entry_error(error, self.writer.name) from error

    async def copy(self, block: CopyBlock) -> None:
        """Run COPY ... FROM STDIN with its rows."""
        sql = self.section.body.sql or ""
        try:
            await self.session.copy_in(sql[block.begin : block.end], sql[block.rows_begin : block.rows_end])
        except StatementFailed as error:
            await self._roll_back(error)
            raise self.section.error(error, block.begin) from error

    async def _roll_back(self, error: StatementFailed) -> None:
        await self.session.rollback()
        if self.session.closed:
            raise ConnectionLost("the connection to the database was lost after a migration had failed") from error
        if _is_failed_guard(error, self.writer):
            raise self.section.ended_transaction_error() from error


def _python_attempt(
    session: Session, writer: LedgerWriter, section: Section, set_limits: str, ledger_statement: str
) -> Callable[[], Awaitable[None]]:
    function = load_section_function(section)

    async def attempt() -> None:
        await session.execute(set_application_name(writer, section))
        async with session.transaction():
            if set_limits:
                await session.execute(set_limits)
            await call_function(session, section, function)
            if not session.in_transaction:
                raise section.ended_transaction_error()
            try:
                await session.execute(ledger_statement)
            except StatementFailed as error:
                # The function ended our transaction and began another one.
                if _is_failed_guard(error, writer):
                    raise section.ended_transaction_error() from error
                raise section.entry_error(error, writer.name) from error

    return attempt


def _is_failed_guard(error: StatementFailed, writer: LedgerWriter) -> bool:
    return error.sqlstate == _NOT_NULL_VIOLATION and error.column == writer.guard_column


def _set_local(limits: MigrationLimits, default: MigrationLimits) -> str:
    """Return the statements that set, for one transaction, the limits in which a migration differs from the session."""
    own = {name: value for name, value in limits.parameters.items() if value != default.parameters[name]}
    return "".join(f"set local {name} = {literal(value)}; " for name, value in own.items())


def set_application_name(writer: LedgerWriter, section: Section) -> str:
    """Return the statement that makes `pg_stat_activity`, and thereby other runs, show which migration runs."""
    return f"set application_name = {literal(application_name(writer.applied_by, section.migration.revision))}"


def load_section_function(section: Section) -> Callable[[object], Awaitable[None]]:
    """Load the function of a Python migration; to be called before anything is written.

    Raises:
        MigrationFailed: The module raised something.
    """
    try:
        return python_module.load_function(section.migration, section.direction)
    except Exception as error:
        raise MigrationFailed(python_module.describe_error(section.migration.path, error)) from error


async def call_function(session: Session, section: Section, function: Callable[[object], Awaitable[None]]) -> None:
    """Call the function of a Python migration with the asyncpg connection.

    Raises:
        MigrationFailed: The function raised something.
        ConnectionLost: The connection ended meanwhile.
    """
    try:
        await function(session.raw)
    except Exception as error:
        if session.closed:
            raise ConnectionLost(f"the connection to the database was lost in {section.migration.path}") from error
        raise MigrationFailed(
            python_module.describe_error(section.migration.path, error), str(getattr(error, "sqlstate", ""))
        ) from error
