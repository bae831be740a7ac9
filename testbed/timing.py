"""Processes and what each of them cost: wall time, and CPU time including its children."""

import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TIMEOUT = 300.0
"""Seconds after which a process is killed; far more than any run that works takes."""
_TAIL = 400


@dataclass(frozen=True, slots=True)
class Command:
    """What to start.

    Attributes:
        arguments: Program and arguments.
        directory: Where.
        environment: In addition to PATH, HOME and LANG; no other variable is inherited.
    """

    arguments: Sequence[str | Path]
    directory: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        status: Its exit status; the negative number of the signal that killed it.
        wall: Seconds from before its start until its end was seen.
        cpu: Seconds of user and system time, of it and the children that it waited for.
        said: The end of its output.
    """

    status: int
    wall: float
    cpu: float
    said: str


def run(command: Command) -> Ended:
    """Run one process to its end."""
    return together([command])[0]


def together(commands: Iterable[Command]) -> list[Ended]:
    """Start processes as fast as possible and wait for all of them.

    Returns:
        How each ended, in the order of the commands. `wall` of any but the first may include the wait for an earlier
        command to end.
    """
    with ExitStack() as stack:
        started = [_start(command, stack) for command in commands]
        limit = threading.Timer(TIMEOUT, _kill, [started])
        limit.daemon = True
        limit.start()
        stack.callback(limit.cancel)
        return [_wait(process, output, began) for process, output, began in started]


_Started = tuple[subprocess.Popen[bytes], IO[bytes], float]


def _start(command: Command, stack: ExitStack) -> _Started:
    output = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(command.directory),
        "LANG": "C.UTF-8",
        **command.environment,
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        command.arguments,
        cwd=command.directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    stack.callback(_end, process)
    return process, output, began


def _wait(process: subprocess.Popen[bytes], output: IO[bytes], began: float) -> Ended:
    _, status, usage = os.wait4(process.pid, 0)  # the only call that returns the usage of this child alone
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    output.seek(0)
    said = output.read().decode(errors="replace").strip()[-_TAIL:]
    return Ended(process.returncode, wall, usage.ru_utime + usage.ru_stime, said)


def _kill(started: Sequence[_Started]) -> None:
    for process, _, _ in started:
        process.kill()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that still runs when an exception interrupts the measurement."""
    if process.returncode is None:
        process.kill()
        process.wait()


def summary(runs: Sequence[Ended]) -> dict[str, float]:
    """Return wall and CPU time in milliseconds (median, least and most), and the number of runs."""
    figures: dict[str, float] = {"count": len(runs)}
    for what, seconds in (("wall", [run.wall for run in runs]), ("cpu", [run.cpu for run in runs])):
        figures[f"{what}_ms"] = round(statistics.median(seconds) * 1000, 1)
        figures[f"{what}_least_ms"] = round(min(seconds) * 1000, 1)
        figures[f"{what}_most_ms"] = round(max(seconds) * 1000, 1)
    return figures
