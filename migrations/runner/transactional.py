"""Sections that run inside a transaction, which also writes their row in the ledger: both are committed, or neither."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from migrations.core.revision import spellings
from migrations.postgres.advisory_lock import application_name
from migrations.postgres.errors import ConnectionLost, StatementFailed
from migrations.runner import python_module
from migrations.runner.ledger_writer import RESET_ROLE
from migrations.runner.retry import is_transient, retry_attempts
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
    """
    sql = section.body.sql or ""
    prefix = f"{set_application_name(writer, section)}; begin deferrable; {set_limits}"
    # The newline ends a `--` comment in the section's last line.
    # Each migration begins in a session like new. What precedes it needs no answer, so the reset costs no round trip.
    message = f"{prefix}{sql}\n;{ledger_statement};\ncommit;\n{session.reset_statements(lock_is_held=True)}"

    async def attempt() -> None:
        try:
            await session.execute(message)
        except StatementFailed as error:
            was_open = session.in_transaction
            await _end_attempt(session, error)
            if not was_open and await _is_recorded(session, writer, section):
                # The reset failed, after COMMIT: the next connection finds the migration as it is recorded.
                session.terminate()
                raise ConnectionLost(f"the session could not be reset after a migration: {error}") from error
            if writer.is_failed_guard(error):
                raise section.ended_transaction_error() from error
            if writer.is_lock_lost(error):
                raise section.lost_lock_error() from error
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
                if writer.is_failed_guard(error):
                    raise section.ended_transaction_error() from error
                if writer.is_lock_lost(error):
                    raise section.lost_lock_error() from error
                raise
        await session.reset()

    async def attempt_anew() -> None:
        try:
            await attempt()
        except MigrationFailed as error:
            if is_transient(error.sqlstate):
                await _end_attempt(session, error)
            raise

    return attempt_anew


async def _end_attempt(session: Session, error: Exception) -> None:
    """Roll back, and make the session like new for another attempt: ROLLBACK keeps what PREPARE made, and locks."""
    await session.rollback()
    if session.closed:
        raise ConnectionLost("the connection to the database was lost after a migration had failed") from error
    await session.reset()


async def _is_recorded(session: Session, writer: LedgerWriter, section: Section) -> bool:
    """Return whether the ledger has what the section does: a row after an up, none after a down."""
    has_row = await session.fetch_value(writer.statement("recorded"), spellings(section.migration.revision))
    return bool(has_row) == (section.direction == "up")


def _set_local(session: Session, limits: MigrationLimits, default: MigrationLimits) -> str:
    """Return the statements that set, for one transaction, the limits in which a migration differs from the session."""
    own = {
        name: value
        for name, value in limits.parameters.items()
        if value != default.parameters[name] and name in session.parameters
    }
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
    except BaseException as error:  # sys.exit() too: nothing here is awaited, so no cancellation can arrive
        raise MigrationFailed(python_module.describe_error(section.migration.path, error)) from error


async def call_function(session: Session, section: Section, function: Callable[[object], Awaitable[None]]) -> None:
    """Call the function of a Python migration with the asyncpg connection.

    Raises:
        MigrationFailed: The function raised something, closed the connection, or forked this process.
        ConnectionLost: The connection ended meanwhile.
    """
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
