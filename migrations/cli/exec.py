"""`ledgergate migrate exec`."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from migrations.cli.command import CommonOptions, report_outcome, report_unusable, run_command
from migrations.cli.conventions import SECONDS, Exit, flag, format_examples
from migrations.cli.directory import extension_flag, list_phase
from migrations.cli.options import common_options, phase_flag
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
"""Value of --expect that stands for the migrations of --dir, as far as --phase goes."""
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
    "Revision that the ledger must hold afterwards, as NAME or NAME+COUNT.DIGEST, or `all` of --dir. When the ledger "
    "holds it already, CMD is not run, unless it goes back (such as migrate:rollback).",
    metavar="REV",
)
@phase_flag(
    "With `--expect all` of ledgergate's own migrations. expand: what an image with --dir needs, which is all but the "
    "contract migrations at its end. contract: all."
)
@flag(
    "--dialect", "Tool whose ledger CMD writes. Without it: recognized by CMD or the database's tables.", metavar="NAME"
)
@flag(
    "--clear-stale-lock",
    "Free the tool's lock row (Knex, Liquibase, yoyo) when a run of `exec` has left it and is proven to be dead.",
    is_flag=True,
)
@flag(
    "--timeout",
    "How long CMD may run. 0 is no limit.",
    type=SECONDS,
    default="0",
    show_default=True,
    metavar="DURATION",
)
@extension_flag
@common_options
def execute(
    options: CommonOptions,
    reporter: CommandReporter,
    *,
    command: Sequence[str],
    expect: str | None,
    phase: str,
    dialect: str | None,
    extensions: Sequence[str],
    clear_stale_lock: bool,
    timeout: float,
) -> int:
    """Run another migration tool under ledgergate's lock, one process at a time.

    CMD inherits the standard streams and receives the signals sent to this process. A process that does not get the
    lock waits; with --expect it then finds nothing to do. The lock is held as long as CMD runs, and CMD is ended when
    the lock is lost. Exits 1 when CMD failed, 3 when it did not bring the ledger to --expect, 4 when the database or
    the lock could not be reached in time.
    """
    from migrations.dialects.catalogue import find_dialect  # noqa: PLC0415 - `--help` does without
    from migrations.dialects.dialect import DialectError  # noqa: PLC0415
    from migrations.tools import recognize  # noqa: PLC0415

    try:
        selected = find_dialect(dialect or recognize.recognize_dialect(command, _package_script) or "auto")
        names = list_phase(selected, options.directories, extensions, phase=phase) if expect == ALL else ()
        expected = selected.declare(names) if names else Revision.parse(expect) if expect else None
        back = expected is not None and recognize.goes_back(command, _package_script)
    except (DialectError, FilesError, ExternalFilesError, RevisionError) as error:
        return report_unusable(reporter, error)

    if back and click.get_current_context().get_parameter_source("expect") is not ParameterSource.COMMANDLINE:
        # A pod's variable says what its image needs, and not where a rollback leads.
        reporter.info("not_expected", f"CMD goes back, so that LEDGERGATE_EXPECT ({expected}) does not count")
        expected = None

    async def work(run: RunOptions) -> int:
        from migrations.tools.execution import ExecOptions, Execution  # noqa: PLC0415 - imports the driver

        exec_options = ExecOptions(command, expected, not back, names, clear_stale_lock, timeout or None)
        run = replace(run, source=replace(run.source, dialect=selected))
        execution = Execution(run, exec_options, reporter)
        with _forwarding(execution.forward) as received:
            try:
                return _report(reporter, run, await execution.run())
            except ChildError as error:
                return report_unusable(reporter, error)
            except asyncio.CancelledError:
                if not received:
                    raise
                reporter.error("interrupted", f"stopped by {received[0].name}; the command was not running")
                return Exit.FAILED

    return run_command(options, reporter, work, files=False)


def _report(reporter: CommandReporter, run: RunOptions, outcome: Outcome | LockNotAcquired) -> int:
    from migrations.tools.execution import ExecFailure, ExecFailureReason, ExecSuccess  # noqa: PLC0415 - imports the driver

    if isinstance(outcome, ExecSuccess):
        head, table = outcome.head or "its beginning", outcome.table
        if not outcome.exists:
            text = f"done: there is no ledger {table}; if CMD keeps it elsewhere, name it by --schema and --table"
            reporter.info("done", text, head=None, table=table)
        elif outcome.ran:
            reporter.info("done", f"done: the ledger is at {head} ({table})", head=outcome.head, table=table)
        else:
            text = f"nothing to do: the ledger is at {head} ({table})"
            reporter.info("nothing_to_do", text, head=outcome.head, table=table)
        return Exit.DONE
    if isinstance(outcome, ExecFailure):
        reporter.error(outcome.reason, outcome.text, exit_code=outcome.code)
        exits = {
            ExecFailureReason.BEHIND: Exit.BEHIND,
            ExecFailureReason.WRITTEN_ELSEWHERE: Exit.BEHIND,
            ExecFailureReason.OCCUPIED: Exit.UNREACHABLE,
            ExecFailureReason.DIALECT_UNKNOWN: Exit.USAGE,
        }
        return exits.get(outcome.reason, Exit.FAILED)
    return report_outcome(reporter, run, outcome)


@contextmanager
def _forwarding(forward: Callable[[signal.Signals], bool]) -> Iterator[Sequence[signal.Signals]]:
    """Forward signals to the command while it runs, else cancel the task; yield the signals received so far."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    received: list[signal.Signals] = []

    def receive(number: signal.Signals) -> None:
        received.append(number)
        if not forward(number):
            task.cancel()

    for number in _FORWARDED:
        loop.add_signal_handler(number, receive, number)
    yield received


def _package_script(name: str) -> str | None:
    """Return a script of ./package.json; None when there is none."""
    try:
        scripts = json.loads(Path("package.json").read_text(encoding="utf-8"))["scripts"]
        return str(scripts[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None
