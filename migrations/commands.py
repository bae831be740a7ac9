"""What each `ledgergate migrate` command does, once its flags are read; gives the exit code."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from dataclasses import dataclass
from datetime import UTC
from enum import IntEnum
from typing import TYPE_CHECKING, Any, assert_never

import click

from migrations.address import Address, AddressError
from migrations.files import FilesError, load
from migrations.revision import Revision, RevisionError, declare
from migrations.statements import IdentifierError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from datetime import datetime
    from pathlib import Path

    from migrations.plan import Plan
    from migrations.report import Report
    from migrations.runner import Job, Outcome

_SQL = "-- migrate:up\n\n\n-- migrate:down\n\n"
_PYTHON = '''"""Say what this migration is for."""


async def up(connection):
    """Run on an asyncpg connection, inside the transaction that also records it."""
    await connection.execute("select 1")


async def down(connection):
    """Undo it."""
    await connection.execute("select 1")
'''


class Exit(IntEnum):
    """Exit codes; a signal is 128 and its number, as shells have it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BEHIND = 3
    UNREACHABLE = 4


@dataclass(frozen=True, slots=True)
class Options:
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


def up(options: Options, report: Report, *, to: str | None, dry_run: bool) -> int:
    """Apply what is pending, or say what that would be."""
    from migrations import runner  # noqa: PLC0415 - the driver, which `new` and `revision` do without

    try:
        job = _job(options, Revision.parse(to).name if to else None)
    except (FilesError, AddressError, RevisionError, IdentifierError) as error:
        return _unusable(report, error)

    async def work() -> int:
        outcome = await (runner.preview(job) if dry_run else runner.up(job, report))
        return _told(report, job, outcome, dry_run=dry_run)

    return _reached(report, work())


def status(options: Options, report: Report, *, as_json: bool, check: bool) -> int:
    """Show how every revision stands, and who holds the lock."""
    from migrations import listing, runner  # noqa: PLC0415 - as above

    try:
        job = _job(options, None)
    except (FilesError, AddressError, IdentifierError) as error:
        return _unusable(report, error)

    async def work() -> int:
        ledger, holder = await runner.look(job)
        at_expected = all(ledger.contains(migration.revision) for migration in job.migrations)
        if as_json:
            click.echo(listing.document(job.migrations, ledger, holder, at_expected=at_expected))
        else:
            listing.show(job.migrations, ledger, holder)
        return Exit.BEHIND if check and not at_expected else Exit.DONE

    return _reached(report, work())


def new(directory: Path, report: Report, name: str, *, python: bool, now: datetime) -> int:
    """Create an empty migration file, named by the time in UTC."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not slug:
        return _unusable(report, ValueError(f"expected a name with a letter or a digit, got {name!r}"))
    path = directory / f"{now.astimezone(UTC):%Y%m%d%H%M%S}_{slug}{'.py' if python else '.sql'}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(_PYTHON if python else _SQL)
    except OSError as error:
        return _unusable(report, ValueError(f"{path} cannot be created: {error.strerror}"))
    click.echo(path)
    return Exit.DONE


def revision(directory: Path, report: Report) -> int:
    """Print what an image with this directory expects."""
    try:
        click.echo(declare([migration.revision for migration in load(directory)]))
    except (FilesError, RevisionError) as error:
        return _unusable(report, error)
    return Exit.DONE


def _job(options: Options, target: str | None) -> Job:
    from migrations.dialects import NATIVE  # noqa: PLC0415 - as above
    from migrations.reader import Source  # noqa: PLC0415
    from migrations.runner import Job  # noqa: PLC0415

    migrations = load(options.directory)
    NATIVE.relation(options.schema, options.table)  # refuses a name that no table can have
    return Job(
        source=Source(
            Address.from_environment(os.environ, options.database_url), NATIVE, options.schema, options.table
        ),
        migrations=migrations,
        applied_by=os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname(),
        target=target,
        connect_timeout=options.connect_timeout,
        lock_timeout=options.lock_timeout,
    )


def _told(report: Report, job: Job, outcome: Outcome, *, dry_run: bool) -> int:
    """Say how a run ended."""
    from migrations.plan import Refusal  # noqa: PLC0415 - as above
    from migrations.runner import Done, Failed, LockTimeout  # noqa: PLC0415

    match outcome:
        case Done(plan):
            _done(report, job, plan, dry_run=dry_run)
            return Exit.DONE
        case Refusal(obstacles):
            for obstacle, text in obstacles:
                report.fail("refused", text, reason=obstacle.value)
            return Exit.FAILED if outcome.dirty else Exit.USAGE
        case Failed(migration, reason):
            report.fail("failed", f"{migration.revision} failed. {reason}", revision=migration.revision)
            return Exit.FAILED
        case LockTimeout(holder):
            who = str(holder) if holder else "sessions that come and go"
            report.fail("lock_timeout", f"the lock was not free within {job.lock_timeout:g} s; it is held by {who}")
            return Exit.UNREACHABLE
    assert_never(outcome)


def _done(report: Report, job: Job, plan: Plan, *, dry_run: bool) -> None:
    if plan.missing:
        report.say("missing", f"applied, but without a file: {', '.join(plan.missing)}", revisions=plan.missing)
    if dry_run:
        for step in plan.steps:
            report.say("would_apply", f"would apply {step.revision}", revision=step.revision)
    elif plan.steps:
        report.say("done", f"done: the ledger is at {plan.steps[-1].revision}", applied=len(plan.steps))
    if plan.steps:
        return
    if plan.ahead:
        newer = ", ".join(plan.ahead)
        report.say("ahead", f"nothing to do: the ledger is ahead of these files; newer: {newer}", revisions=plan.ahead)
    elif not job.migrations:
        report.say("nothing_to_do", "nothing to do: the directory holds no migration")
    else:
        head = job.target or job.migrations[-1].revision
        report.say("nothing_to_do", f"nothing to do: the ledger holds every migration up to {head}", head=head)


def _unusable(report: Report, error: Exception) -> int:
    problems: Sequence[object] = getattr(error, "problems", (error,))
    for problem in problems:
        report.fail("unusable", str(problem))
    return Exit.USAGE


def _reached(report: Report, work: Coroutine[Any, Any, int]) -> int:
    """Run to the end, to a signal, or to a database that cannot be used."""
    from migrations.database import DatabaseError, Misconfigured, PermissionMissing  # noqa: PLC0415 - as above
    from migrations.reader import LedgerUnreadable  # noqa: PLC0415

    try:
        return asyncio.run(_interruptible(report, work))
    except (Misconfigured, LedgerUnreadable) as error:
        return _unusable(report, error)
    except PermissionMissing as error:
        report.fail("permission_missing", f"{error}; grant the role of the database address what it lacks")
    except DatabaseError as error:
        report.fail("unreachable", str(error))
    return Exit.UNREACHABLE


async def _interruptible(report: Report, work: Coroutine[Any, Any, int]) -> int:
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
        report.fail(
            "interrupted", f"interrupted by {received[0].name}; nothing half done is left behind but what status shows"
        )
        return 128 + received[0]
