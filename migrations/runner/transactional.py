"""Carries out a section in one transaction with its entry in the ledger, again where it did not get a lock."""

from __future__ import annotations

import asyncio
import random
import re
from typing import TYPE_CHECKING

from migrations.postgres.advisory_lock import application_name
from migrations.postgres.errors import ConnectionLost, StatementFailed
from migrations.runner import python_module
from migrations.runner.ledger_writer import RESET_ROLE
from migrations.runner.retry import RetryPolicy
from migrations.runner.section import MigrationFailed
from migrations.runner.splitter import find_transaction_end
from migrations.sql.statements import literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from migrations.postgres.session import Session
    from migrations.runner.ledger_writer import LedgerWriter
    from migrations.runner.retry import MigrationLimits
    from migrations.runner.section import InfoCallback, Section

_NOT_NULL = "23502"
_CHANGES_SESSION = re.compile(r"\b(set|reset|set_config|discard)\b", re.IGNORECASE)


async def run_section(session: Session, writer: LedgerWriter, section: Section, entry: str, info: InfoCallback) -> None:
    """Carry out a section and its entry, both or neither.

    Raises:
        StepFailed: It failed.
        DatabaseError: The connection was lost.
    """
    script, limits = section.body, writer.limits.of(section.body)
    entry = RESET_ROLE + entry
    begin = f"{name_session(writer, section)}; begin deferrable; {_local(limits, writer.limits)}"
    if script.sql is None:
        attempt = _python(session, section, writer, entry, _local(limits, writer.limits))
    else:
        if (found := find_transaction_end(script.sql)) is not None:
            raise section.would_end(*found)
        attempt = _sql(session, writer, section, begin, entry)
    await retry_attempts(section, limits, attempt, info)
    if script.sql is None or _CHANGES_SESSION.search(script.sql):
        await session.restore()  # what a migration sets is its own affair; the next begins as it did


async def retry_attempts(
    section: Section, limits: MigrationLimits, attempt: Callable[[], Awaitable[None]], info: InfoCallback
) -> None:
    """Try, and try again after a pause where what failed may pass by itself, as long as `retry_for` allows.

    Raises:
        StepFailed: As the attempt; the last one tells for how long was tried.
    """
    patience = RetryPolicy(limits, asyncio.get_running_loop().time, random.random)
    tries = 0
    while True:
        tries += 1
        try:
            return await attempt()
        except MigrationFailed as error:
            again = patience.after(error.sqlstate)
            if again is None:
                if tries == 1:
                    raise
                raise MigrationFailed(
                    f"{error} (tried {tries} times in {limits.retry_for:g} s)", error.sqlstate
                ) from error
            reason, pause = again
            text = f"{section.migration.revision} {reason} and is rolled back; once more in {pause:.1f} s"
            info(
                "retrying",
                text,
                revision=section.migration.revision,
                attempt=tries,
                pause=round(pause, 1),
                reason=str(error),
            )
        await asyncio.sleep(pause)


def _sql(
    session: Session, writer: LedgerWriter, section: Section, begin: str, entry: str
) -> Callable[[], Awaitable[None]]:
    """Send BEGIN, the section, its entry and COMMIT as one message: one round trip, and nothing runs after an error.

    Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
    """
    sql = section.body.sql or ""
    message = f"{begin}{sql}\n;{entry};\ncommit"

    async def attempt() -> None:
        try:
            await session.execute(message)
        except StatementFailed as error:
            await session.abandon()
            if session.closed:
                raise ConnectionLost("the connection to the database was lost after a migration had failed") from error
            if error.sqlstate == _NOT_NULL and error.column == writer.guard:
                raise section.ended_early() from error
            if error.position is not None and error.position > len(begin) + len(sql):
                raise  # the ledger cannot be written
            raise section.failure(error, -len(begin)) from error

    return attempt


def _python(
    session: Session, section: Section, writer: LedgerWriter, entry: str, local: str
) -> Callable[[], Awaitable[None]]:
    function = load_section_function(section)

    async def attempt() -> None:
        await session.execute(name_session(writer, section))
        async with session.transaction():
            if local:
                await session.execute(local)
            await call_function(session, section, function)
            if not session.in_transaction:
                raise section.ended_early()
            try:
                await session.execute(entry)
            except StatementFailed as error:
                if error.sqlstate == _NOT_NULL and error.column == writer.guard:
                    raise section.ended_early() from error
                raise

    return attempt


def name_session(writer: LedgerWriter, section: Section) -> str:
    """Give the statement by which the session shows which migration it runs."""
    return f"set application_name = {literal(application_name(writer.applied_by, section.migration.revision))}"


async def call_function(session: Session, section: Section, function: Callable[[object], Awaitable[None]]) -> None:
    """Call a Python migration.

    Raises:
        StepFailed: It raised something.
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


def load_section_function(section: Section) -> Callable[[object], Awaitable[None]]:
    """Load the function of a Python migration before anything is written.

    Raises:
        StepFailed: Its module raised something.
    """
    try:
        return python_module.load_function(section.migration, section.direction)
    except Exception as error:
        raise MigrationFailed(python_module.describe_error(section.migration.path, error)) from error


def _local(limits: MigrationLimits, usual: MigrationLimits) -> str:
    """Give the settings of a migration's own limits, for its transaction alone."""
    own = {name: value for name, value in limits.settings.items() if value != usual.settings[name]}
    return "".join(f"set local {name} = {literal(value)}; " for name, value in own.items())
