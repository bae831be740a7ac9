"""How a command runs: its common flags, its work with files and database, and its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

import click

from migrations.cli.conventions import Exit
from migrations.core.migration import FilesError
from migrations.core.revision import Revision, RevisionError
from migrations.files.native import load_directory
from migrations.postgres.address import Address, AddressError
from migrations.sql.statements import IdentifierError, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from migrations.cli.report import CommandReporter
    from migrations.core.plan import Refusal
    from migrations.postgres.advisory_lock import LockHolder
    from migrations.runner.run import Failed, LockNotAcquired, RunOptions


class CommonOptions(NamedTuple):
    """The flags that every command takes.

    A named tuple, because its class is made in a quarter of a dataclass's time, which every start of a pod waits for.

    Attributes:
        directories: Directories of the migrations; the native ones are in one.
        database_url: Address of the database; None for that of the environment.
        schema: Schema of the ledger's table; None for the default.
        table: Name of the ledger's table; None for the default.
        connect_timeout: Seconds until a server that does not answer is given up.
        lock_timeout: Seconds to wait for the advisory lock.
        role: Role to act as; None for that of the address.
    """

    directories: tuple[Path, ...]
    database_url: str | None
    schema: str | None
    table: str | None
    connect_timeout: float
    lock_timeout: float
    role: str | None

    @property
    def directory(self) -> Path:
        """The only directory.

        Raises:
            UsageError: There are several.
        """
        if len(self.directories) > 1:
            raise click.UsageError(
                f"expected --dir once, got it {len(self.directories)} times: migrations of ledgergate are in one "
                "directory, --dialect names a tool whose migrations are in several"
            )
        return self.directories[0]


def run_command(
    options: CommonOptions,
    reporter: CommandReporter,
    work: Callable[[RunOptions], Coroutine[Any, Any, int]],
    *,
    to: str | None = None,
    files: bool = True,
) -> int:
    """Do work that needs the database, and return the exit code.

    Args:
        options: The common flags.
        reporter: Receives the reason when the work cannot be done.
        work: Returns the exit code when the database could be used.
        to: Last revision to work on, as the user wrote it; None for all.
        files: Whether to read the directory of migrations.
    """
    # `new`, `revision` and `lint` do without the driver, which these modules import.
    from migrations.dialects.dialect import LedgerUnreadable  # noqa: PLC0415
    from migrations.postgres.errors import (  # noqa: PLC0415
        AnswerUnreadable,
        DatabaseError,
        Misconfigured,
        PermissionMissing,
        ServerReadOnly,
        StatementFailed,
        TimedOut,
    )

    try:
        run = _run_options(options, Revision.parse(to).name if to else None, files=files)
        return asyncio.run(_interruptible(reporter, _explain_rights(run, work(run))))
    except (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError) as error:
        # `_interruptible` turns signals into a cancellation. So a task that a Python migration started has raised this.
        reporter.error("failed", f"a Python migration ended the run: {_describe_exit(error)}")
        return Exit.FAILED
    except (FilesError, AddressError, RevisionError, IdentifierError, Misconfigured, LedgerUnreadable) as error:
        return report_unusable(reporter, error)
    except AnswerUnreadable as error:
        reporter.error("unusable", f"the ledger's table cannot be read: {error}; correct that row of it")
        return Exit.USAGE
    except PermissionMissing as error:
        reporter.error("permission_missing", str(error))
    except StatementFailed as error:
        reporter.error("failed", str(error))
        # A lock that was not granted in time, and a server that takes no writes now, may pass.
        return Exit.UNREACHABLE if isinstance(error, ServerReadOnly | TimedOut) else Exit.FAILED
    except DatabaseError as error:
        reporter.error("unreachable", str(error))
    return Exit.UNREACHABLE


async def _explain_rights(run: RunOptions, work: Coroutine[Any, Any, int]) -> int:
    """Do the work; where the role lacks a right outside a migration, say which, and how it is granted."""
    from migrations.postgres.errors import DatabaseError, PermissionMissing, RowsHidden  # noqa: PLC0415 - as above

    try:
        return await work
    except RowsHidden:
        raise  # it says what to do
    except PermissionMissing as error:
        from migrations.reader.rights import describe_missing_right  # noqa: PLC0415 - rare
        from migrations.runner.locked_session import open_session  # noqa: PLC0415

        ledger = run.source.table or run.source.dialect.table
        user, database = quoted(run.source.address.user), quoted(run.source.address.database)
        remedy = f"; the owner of the database, or a superuser, runs `grant connect on database {database} to {user}`"
        with suppress(DatabaseError):  # where no session can be opened, CONNECT is the missing right
            async with open_session(run) as session:
                remedy = await describe_missing_right(session, str(error), ledger=ledger)
        raise PermissionMissing(f"{error}{remedy}", error.sqlstate) from error


def _describe_exit(error: BaseException) -> str:
    """Return an exception of another task with the place that raised it."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{frame.f_code.co_filename}:{line}: {type(error).__name__}: {error}".removesuffix(": ")


def report_unusable(reporter: CommandReporter, error: Exception) -> int:
    """Report what is wrong with flags, settings or files, one line for each problem, and return the exit code."""
    problems: Sequence[object] = getattr(error, "problems", (error,))
    for problem in problems:
        reporter.error("unusable", str(problem))
    return Exit.USAGE


def report_outcome(reporter: CommandReporter, run: RunOptions, outcome: Refusal | Failed | LockNotAcquired) -> int:
    """Report why a run did not do all that it was asked to, and return the exit code."""
    from migrations.core.plan import Refusal  # noqa: PLC0415 - as in `run_command`
    from migrations.runner.run import Failed, LockNotAcquired  # noqa: PLC0415

    match outcome:
        case Refusal(obstacles):
            for obstacle, text in obstacles:
                reporter.error("refused", text, reason=obstacle.value)
            return Exit.FAILED if outcome.only_dirty else Exit.USAGE
        case Failed(migration, reason):
            reporter.error("failed", f"{migration.revision} failed. {reason}", revision=migration.revision)
            return Exit.FAILED
        case LockNotAcquired(holder):
            held_by = f"held by {describe_holder(holder)}"
            reporter.error("lock_timeout", f"the lock was not free within {run.lock_wait_timeout:g} s; it is {held_by}")
            return Exit.UNREACHABLE
    assert_never(outcome)


def describe_holder(holder: LockHolder | None) -> str:
    """Return who holds the lock; when several processes try for it, each may be gone before it can be looked up."""
    return str(holder) if holder else "sessions that come and go"


def _run_options(options: CommonOptions, target: str | None, *, files: bool) -> RunOptions:
    from migrations.dialects.native import NATIVE  # noqa: PLC0415 - as in `run_command`
    from migrations.postgres.client_files import ClientFiles  # noqa: PLC0415
    from migrations.reader.reader import LedgerSource  # noqa: PLC0415
    from migrations.runner.run import RunOptions  # noqa: PLC0415

    migrations = load_directory(options.directory) if files else ()
    address = Address.from_environment(os.environ, options.database_url, ClientFiles())
    if options.role:
        address = address.acting_as(options.role)
    schema = options.schema or address.schema
    NATIVE.relation(schema, options.table)  # raises IdentifierError before a connection is made
    return RunOptions(
        source=LedgerSource(address, NATIVE, schema, options.table),
        migrations=migrations,
        applied_by=os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname(),
        target=target,
        connect_timeout=options.connect_timeout,
        lock_wait_timeout=options.lock_timeout,
    )


async def _interruptible(reporter: CommandReporter, work: Coroutine[Any, Any, int]) -> int:
    """Cancel the work on SIGTERM and SIGINT, so that a transaction that has begun is rolled back."""
    received: list[signal.Signals] = []
    task = asyncio.ensure_future(work)

    def interrupt(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        reporter.error(
            "interrupted",
            f"stopped by {received[0].name}; `ledgergate migrate status` shows a migration that is left half done",
        )
        return Exit.FAILED
