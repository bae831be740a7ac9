"""What every command shares: the values of the common flags, the exit codes, and how a command ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from migrations.cli.exit_codes import Exit
from migrations.core.migration import FilesError
from migrations.core.revision import Revision, RevisionError
from migrations.files.native import load_directory
from migrations.postgres.address import Address, AddressError
from migrations.sql.statements import IdentifierError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from migrations.cli.report import CommandReporter
    from migrations.core.plan import Refusal
    from migrations.runner.run import Failed, LockTimeout, RunOptions


@dataclass(frozen=True, slots=True)
class CommonOptions:
    """The flags that every command shares.

    Attributes:
        directory: Where the migrations are.
        database_url: As given; None for the environment's.
        schema: Of the ledger's table; None for the default.
        table: Of the ledger; None for the default.
        connect_timeout: Seconds.
        lock_timeout: Seconds.
    """

    directory: Path
    database_url: str | None
    schema: str | None
    table: str | None
    connect_timeout: float
    lock_timeout: float


def run_command(
    options: CommonOptions,
    report: CommandReporter,
    work: Callable[[RunOptions], Coroutine[Any, Any, int]],
    *,
    to: str | None = None,
    files: bool = True,
) -> int:
    """Do what needs the files and the database, and give the exit code.

    Args:
        options: The common flags.
        report: Told why nothing could be done.
        work: What to do; gives the exit code when the database answered.
        to: The last revision to work on, as given; None for all.
        files: Whether the directory is needed.
    """
    from migrations.dialects.dialect import LedgerUnreadable  # noqa: PLC0415 - `new` and `revision` do without
    from migrations.postgres.errors import DatabaseError, Misconfigured, PermissionMissing  # noqa: PLC0415 - the driver, which

    try:
        run = _run_options(options, Revision.parse(to).name if to else None, files=files)
        return asyncio.run(_interruptible(report, work(run)))
    except (FilesError, AddressError, RevisionError, IdentifierError, Misconfigured, LedgerUnreadable) as error:
        return report_unusable(report, error)
    except PermissionMissing as error:
        report.error("permission_missing", f"{error}; grant the role of the database address what it lacks")
    except DatabaseError as error:
        report.error("unreachable", str(error))
    return Exit.UNREACHABLE


def report_unusable(report: CommandReporter, error: Exception) -> int:
    """Tell what is wrong with flags, settings or files, each problem in a line of its own."""
    problems: Sequence[object] = getattr(error, "problems", (error,))
    for problem in problems:
        report.error("unusable", str(problem))
    return Exit.USAGE


def report_outcome(report: CommandReporter, run: RunOptions, outcome: Refusal | Failed | LockTimeout) -> int:
    """Tell why what was wanted was not done, or not all of it."""
    from migrations.core.plan import Refusal  # noqa: PLC0415 - as above
    from migrations.runner.run import Failed, LockTimeout  # noqa: PLC0415

    match outcome:
        case Refusal(obstacles):
            for obstacle, text in obstacles:
                report.error("refused", text, reason=obstacle.value)
            return Exit.FAILED if outcome.only_dirty else Exit.USAGE
        case Failed(migration, reason):
            report.error("failed", f"{migration.revision} failed. {reason}", revision=migration.revision)
            return Exit.FAILED
        case LockTimeout(holder):
            who = str(holder) if holder else "sessions that come and go"
            report.error(
                "lock_timeout", f"the lock was not free within {run.lock_wait_timeout:g} s; it is held by {who}"
            )
            return Exit.UNREACHABLE
    assert_never(outcome)


def _run_options(options: CommonOptions, target: str | None, *, files: bool) -> RunOptions:
    from migrations.dialects.native import NATIVE  # noqa: PLC0415 - as above
    from migrations.reader.reader import LedgerSource  # noqa: PLC0415
    from migrations.runner.run import RunOptions  # noqa: PLC0415

    migrations = load_directory(options.directory) if files else ()
    NATIVE.relation(options.schema, options.table)  # refuses a name that no table can have
    return RunOptions(
        source=LedgerSource(
            Address.from_environment(os.environ, options.database_url), NATIVE, options.schema, options.table
        ),
        migrations=migrations,
        applied_by=os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname(),
        target=target,
        connect_timeout=options.connect_timeout,
        lock_wait_timeout=options.lock_timeout,
    )


async def _interruptible(report: CommandReporter, work: Coroutine[Any, Any, int]) -> int:
    """Cancel the work on SIGTERM and SIGINT: what a transaction has begun is rolled back."""
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
        report.error(
            "interrupted", f"stopped by {received[0].name}; nothing half done is left behind but what status shows"
        )
        return Exit.FAILED
