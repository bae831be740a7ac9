"""Fast runs of `ledgergate`: each is a fork of one process that has imported everything.

A fork goes through the same `main` as the console script, with its own arguments, environment, directory and output.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
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

    def __init__(self, forks: Forks, pid: int, output: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forks = forks
        self._output = output

    @property
    def output(self) -> str:
        """What it has written to standard output and standard error."""
        return self._output.read_text()

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end, and return its exit code, negative for a signal."""
        self._forks.pump(lambda: self.returncode is not None, timeout)
        assert self.returncode is not None
        return self.returncode

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        if self.returncode is None:
            os.kill(self.pid, number)


class Forks:
    """The process that forks, for use in a `with` block; not for several threads at once."""

    def __init__(self) -> None:
        """Create it; entering the block starts the process."""
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""  # an incomplete report
        self._runs: dict[int, Fork] = {}
        self._pids: list[int] = []
        self._early: dict[int, int] = {}  # runs whose end was reported together with their beginning

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(10)
        process.stdout.close()

    def start(self, *arguments: str, directory: Path, environment: Mapping[str, str], output: Path) -> Fork:
        """Start a run.

        Args:
            arguments: Of `ledgergate`.
            directory: To run in.
            environment: The complete environment.
            output: File for what it writes.
        """
        request = {"arguments": arguments, "directory": str(directory), "environment": dict(environment)}
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(json.dumps(request | {"output": str(output)}).encode() + b"\n")
        process.stdin.flush()
        self.pump(lambda: bool(self._pids), 30)
        pid = self._pids.pop()
        run = self._runs[pid] = Fork(self, pid, output)
        if pid in self._early:
            self._runs.pop(pid).returncode = self._early.pop(pid)
        return run

    def pump(self, done: Any, timeout: float) -> None:
        """Read reports until the condition holds."""
        deadline = time.monotonic() + timeout
        process = self._running()
        assert process.stdout is not None
        while not done():
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"not within {timeout:g} s"
            # Not through the file's own buffer, whose content `select` does not see.
            chunk = os.read(process.stdout.fileno(), 65536)
            assert chunk, "the process that forks has ended"
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, report: Mapping[str, int]) -> None:
        pid = report["pid"]
        if "code" not in report:
            self._pids.append(pid)
        elif pid in self._runs:
            self._runs.pop(pid).returncode = report["code"]
        else:
            self._early[pid] = report["code"]

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


def _child(request: Mapping[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(here, there)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["ledgergate", *request["arguments"]]
    from webhook.cli.main import main  # noqa: PLC0415 - imported long since

    main()


def _reap(*, children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        children.discard(pid)
        _report({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _report(report: Mapping[str, int]) -> None:
    os.write(1, (json.dumps(report) + "\n").encode())


def main() -> None:
    """Fork at every line of standard input, and report each pid and each end."""
    import asyncpg  # noqa: F401, PLC0415 - what every run would import
    import pglast  # noqa: F401, PLC0415

    import migrations.cli.main  # noqa: PLC0415
    import migrations.cli.up  # noqa: PLC0415
    import migrations.postgres.pooler  # noqa: PLC0415
    import migrations.runner.down  # noqa: F401, PLC0415
    import webhook.cli.main  # noqa: F401, PLC0415

    gc.collect()
    gc.freeze()  # a frozen object is not touched by the collector, so its page stays shared
    children: set[int] = set()
    buffer = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.005 if children else None)
        if ready:
            chunk = os.read(0, 65536)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                pid = os.fork()
                if not pid:
                    _child(json.loads(line))
                    os._exit(0)
                children.add(pid)
                _report({"pid": pid})
        _reap(children=children)
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
