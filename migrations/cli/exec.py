"""`exec`: runs a foreign migration tool under our lock."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrations.cli.exit_codes import Exit
from migrations.cli.foreign import known
from migrations.cli.invocation import CommonOptions, report_outcome, report_unusable, run_command
from migrations.cli.options import SECONDS, command, flag, format_examples
from migrations.core.migration import FilesError
from migrations.core.revision import Revision, RevisionError
from migrations.files.external import ExternalFilesError
from migrations.tools.process import ChildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from migrations.cli.report import CommandReporter
    from migrations.runner.run import LockNotAcquired, RunOptions
    from migrations.tools.execution import Outcome

ALL = "all"
"""What --expect may say instead of a revision: every migration of --dir."""
_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


@click.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    epilog=format_examples(
        "ledgergate migrate exec -- npx knex migrate:latest",
        "ledgergate migrate exec --dialect knex --expect 20250126120000_add_users -- npm run migrate:latest",
        "ledgergate migrate exec --expect 'ae1027a6acf5' -- alembic upgrade head",
    ),
)
@click.argument("command", metavar="-- CMD ...", nargs=-1, required=True, type=click.UNPROCESSED)
@flag(
    "--expect",
    "What the ledger must hold afterwards, as NAME or NAME+COUNT.DIGEST, or `all` of --dir. When it holds it already, "
    "CMD is not run.",
    metavar="REV",
)
@flag(
    "--dialect", "The tool whose ledger CMD writes; without it, as CMD or the database's tables tell.", metavar="NAME"
)
@flag(
    "--clear-stale-lock",
    "Free the tool's lock row (Knex, Liquibase, yoyo) when it is taken and nobody alive can own it.",
    is_flag=True,
)
@flag(
    "--timeout",
    "How long CMD may run; 0 is for ever.",
    type=SECONDS,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
)
@command
def execute(
    options: CommonOptions,
    report: CommandReporter,
    *,
    command: Sequence[str],
    expect: str | None,
    dialect: str | None,
    clear_stale_lock: bool,
    timeout: float,
) -> int:
    """Run another migration tool under our lock, exactly one at a time.

    CMD has our streams and gets our signals. Who does not get the lock waits, and then finds nothing to do. The lock is
    held for as long as CMD runs, and CMD is ended when it is lost. Exits 1 when CMD failed, 3 when it did not bring the
    ledger to --expect.
    """
    from migrations.dialects.catalogue import find_dialect  # noqa: PLC0415
    from migrations.dialects.dialect import DialectError  # noqa: PLC0415
    from migrations.tools import recognize  # noqa: PLC0415 - what other commands do without

    try:
        written_in = find_dialect(dialect or recognize.recognize_dialect(command, _script) or "auto")
        names = known(written_in, options.directory) if expect == ALL else ()
        expected = written_in.declare(names) if names else Revision.parse(expect) if expect else None
    except (DialectError, FilesError, ExternalFilesError, RevisionError) as error:
        return report_unusable(report, error)

    async def work(run: RunOptions) -> int:
        from migrations.tools import execution  # noqa: PLC0415 - the driver

        order = execution.ExecOptions(command, expected, names, clear_stale_lock, timeout or None)
        run = replace(run, source=replace(run.source, dialect=written_in))
        wrapped = execution.Execution(run, order, report)
        with _forwarding(wrapped.forward) as received:
            try:
                return _tell(report, run, await wrapped.run())
            except ChildError as error:
                return report_unusable(report, error)
            except asyncio.CancelledError:
                if not received:
                    raise
                report.error("interrupted", f"stopped by {received[0].name}; the command was not running")
                return Exit.FAILED

    return run_command(options, report, work, files=False)


def _tell(report: CommandReporter, run: RunOptions, outcome: Outcome | LockNotAcquired) -> int:
    from migrations.tools.execution import ExecFailure, ExecFailureReason, ExecSuccess  # noqa: PLC0415 - the driver

    if isinstance(outcome, ExecSuccess):
        head = outcome.head or "its beginning"
        if outcome.ran:
            report.info("done", f"done: the ledger is at {head}", head=outcome.head)
        else:
            report.info("nothing_to_do", f"nothing to do: the ledger is at {head}", head=outcome.head)
        return Exit.DONE
    if isinstance(outcome, ExecFailure):
        report.error(outcome.reason, outcome.text, exit_code=outcome.code)
        exits = {
            ExecFailureReason.BEHIND: Exit.BEHIND,
            ExecFailureReason.OCCUPIED: Exit.UNREACHABLE,
            ExecFailureReason.DIALECT_UNKNOWN: Exit.USAGE,
        }
        return exits.get(outcome.reason, Exit.FAILED)
    return report_outcome(report, run, outcome)


@contextmanager
def _forwarding(forward: Callable[[signal.Signals], bool]) -> Iterator[Sequence[signal.Signals]]:
    """Hand signals on as long as there is somebody to take them; else they cancel the task. Gives those received."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - only a task can have called us
    received: list[signal.Signals] = []

    def take(number: signal.Signals) -> None:
        received.append(number)
        if not forward(number):
            task.cancel()

    for number in _FORWARDED:
        loop.add_signal_handler(number, take, number)
    yield received


def _script(name: str) -> str | None:
    """Give a script of ./package.json; None where there is none."""
    try:
        scripts = json.loads(Path("package.json").read_text(encoding="utf-8"))["scripts"]
        return str(scripts[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None
