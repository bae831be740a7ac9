"""Sections that run inside a transaction, which also writes their row in the ledger: both are committed, or neither."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrations.postgres.advisory_lock import application_name
from migrations.postgres.errors import ConnectionLost, StatementFailed
from migrations.runner import python_module
from migrations.runner.ledger_writer import RESET_ROLE
from migrations.runner.retry import retry_attempts
from migrations.runner.section import MigrationFailed
from migrations.runner.splitter import find_transaction_end
from migrations.sql.statements import literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import MigrationLimits
    from migrations.runner.section import Section

_NOT_NULL_VIOLATION = "23502"
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
    """
    sql = section.body.sql or ""
    prefix = f"{set_application_name(writer, section)}; begin deferrable; {set_limits}"
    # The newline ends a `--` comment in the section's last line.
    message = f"{prefix}{sql}\n;{ledger_statement};\ncommit"

    async def attempt() -> None:
        try:
            await session.execute(message)
        except StatementFailed as error:
            await session.rollback()
            if session.closed:
                raise ConnectionLost("the connection to the database was lost after a migration had failed") from error
            if _is_failed_guard(error, writer):
                raise section.ended_transaction_error() from error
            if error.position is not None and error.position > len(prefix) + len(sql):
                raise  # an error of the ledger statement, not of the section
            raise section.statement_error(error, -len(prefix)) from error

    return attempt


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
                raise

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
