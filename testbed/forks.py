"""Fast runs of `ledgergate`: each is a fork of one process that has imported everything.

A fork goes through the same `main` as the console script, with its own arguments, environment, directory and output.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import itertools
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
_PR_SET_PDEATHSIG = 1


class Fork:
    """One run.

    Attributes:
        pid: Its process.
        returncode: How it ended, negative for a signal; None while it runs.
    """

    def __init__(self, output: Path) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._output = output
        self._started, self._ended = threading.Event(), threading.Event()

    @property
    def output(self) -> str:
        """What it has written to standard output and, unless that has a file of its own, to standard error."""
        return self._output.read_text()

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end, at most some seconds, and return its exit code, negative for a signal."""
        assert self._ended.wait(timeout), f"not within {timeout:g} s"
        assert self.returncode is not None, "the process that forks has ended"
        return self.returncode

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def take(self, report: Mapping[str, int]) -> None:
        """Record a report of the process that forks; an empty report means that this process has ended."""
        self.pid = report.get("pid", self.pid)
        self.returncode = report.get("code")
        self._started.set()
        if "pid" not in report:
            self._ended.set()

    def await_start(self) -> None:
        """Wait until it has a process."""
        assert self._started.wait(120), "no fork within 120 s"
        assert self.pid, "the process that forks has ended"


class Forks:
    """The process that forks, for use in a `with` block, by any thread."""

    def __init__(self) -> None:
        """Create it; entering the block starts the process."""
        self._process: subprocess.Popen[bytes] | None = None
        self._runs: dict[int, Fork] = {}
        self._begun = itertools.count()
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "testbed.forks"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(10)
        self._reader.join(10)
        process.stdout.close()

    def start(
        self,
        *arguments: str,
        directory: Path,
        environment: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
    ) -> Fork:
        """Start a run.

        Args:
            arguments: Of `ledgergate`.
            directory: To run in.
            environment: The complete environment.
            output: File for what it writes.
            errors: File for what it writes to standard error; None for the same one.
        """
        number, run = next(self._begun), Fork(output)
        request = {
            "run": number,
            "arguments": arguments,
            "directory": str(directory),
            "environment": dict(environment),
            "output": str(output),
            "errors": str(errors or output),
        }
        process = self._running()
        assert process.stdin is not None
        self._runs[number] = run
        with self._writing:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        run.await_start()
        return run

    def _read(self) -> None:
        process = self._running()
        assert process.stdout is not None
        for line in process.stdout:
            report = json.loads(line)
            number = report["run"]
            (self._runs[number] if "pid" in report else self._runs.pop(number)).take(report)
        for run in self._runs.values():
            run.take({})

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


@cache
def shared() -> Forks:
    """Return the process that forks for all runs of this process; it ends with this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(Forks())


def _child(request: Mapping[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Appending, so that two descriptors of one file do not write over each other.
    for name in ("output", "errors"):
        Path(request[name]).write_bytes(b"")
    write = os.O_WRONLY | os.O_APPEND
    nothing = os.open(os.devnull, os.O_RDONLY)
    output, errors = (os.open(request[name], write) for name in ("output", "errors"))
    for here, there in ((nothing, 0), (output, 1), (errors, 2)):
        os.dup2(here, there)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["ledgergate", *request["arguments"]]
    from webhook.cli.main import main  # noqa: PLC0415 - the parent has imported it already

    main()


def _reap(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        _report({"run": children.pop(pid), "code": os.waitstatus_to_exitcode(status)})


def _report(report: Mapping[str, int]) -> None:
    os.write(1, (json.dumps(report) + "\n").encode())


def main() -> None:
    """Fork at every line of standard input, and report each pid and each end."""
    import asyncpg  # noqa: F401, PLC0415 - what the runs would import
    import pglast  # noqa: F401, PLC0415

    import migrations  # noqa: PLC0415
    import webhook.cli.main  # noqa: F401, PLC0415

    for module in pkgutil.walk_packages(migrations.__path__, "migrations."):
        importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # a frozen object is not touched by the collector, so its page stays shared
    children: dict[int, int] = {}  # the number of the run, by its process
    buffer = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.005 if children else None)
        if ready:
            chunk = os.read(0, 65536)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = os.fork()
                if not pid:
                    _child(request)
                    os._exit(0)
                children[pid] = request["run"]
                _report({"run": request["run"], "pid": pid})
        _reap(children)
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
