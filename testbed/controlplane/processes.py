"""The processes of one control plane: started, signalled and ended together.

Exception
└── ControlPlaneError    a program failed, or is not ready in time
    └── PortTakenError   another process has the port; start again with other ports
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL = 0.02
TAIL = 25


class ControlPlaneError(Exception):
    """A program of the control plane failed, or is not ready in time."""


class PortTakenError(ControlPlaneError):
    """Another process took a port between its choice and its use."""


class Processes:
    """The programs of one plane, by name, each with a log file.

    All are in one process group, led by a reaper that ends them if this process dies.

    Args:
        directory: The plane's directory, which the reaper removes at the very end.
        logs: Directory of the log files.
    """

    def __init__(self, directory: Path, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._reaper = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("reaper.py"), directory],
            stdin=subprocess.PIPE,
            cwd="/",
            process_group=0,
        )

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start a program; its output is appended to `<name>.log`.

        Args:
            name: For its log, and for the other methods.
            command: Program and arguments.
            environment: Variables that it has besides this process's.
        """
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._logs,
                env={**os.environ, **(environment or {})},
                process_group=self._reaper.pid,
            )

    def log(self, name: str) -> Path:
        """Return the path of a program's log file."""
        return self._logs / f"{name}.log"

    def wait(self, what: str, probe: Callable[[], bool], *, culprit: str, timeout: float) -> None:
        """Wait until a probe succeeds.

        Args:
            what: Description of the condition, for the message.
            probe: Called every 20 ms.
            culprit: The program whose log the message of a timeout has.
            timeout: In seconds.

        Raises:
            PortTakenError: A program ended because its port is taken.
            ControlPlaneError: A program ended, or the time is up.
        """
        deadline = time.monotonic() + timeout
        while not probe():
            for name, process in tuple(self._running.items()):
                if process.poll() is not None:
                    raise self._ended(name, process.returncode)
            if time.monotonic() > deadline:
                raise ControlPlaneError(f"{what}: not after {timeout:g} s. {self._tail(culprit)}")
            time.sleep(POLL)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one program."""
        self._running[name].send_signal(number)

    def kill(self, name: str) -> None:
        """Kill a program and wait until it is gone; do nothing if it does not run."""
        process = self._running.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def running(self, name: str) -> bool:
        """Return whether a program was started and not killed since."""
        return name in self._running

    def pid(self, name: str) -> int:
        """Return the process id of a program that runs."""
        return self._running[name].pid

    def stop(self, order: Sequence[Sequence[str]], *, grace: float) -> None:
        """End all programs, then the reaper, which removes the directory.

        Args:
            order: Groups of names; each group gets SIGTERM when the one before has ended.
            grace: Seconds from the first SIGTERM to SIGKILL.
        """
        deadline = time.monotonic() + grace
        for names in order:
            group = [self._running.pop(name) for name in names if name in self._running]
            for process in group:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in group:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._reaper.communicate()

    def _ended(self, name: str, code: int) -> ControlPlaneError:
        tail = self._tail(name)
        error = PortTakenError if "address already in use" in tail else ControlPlaneError
        return error(f"{name} ended by itself with code {code}. {tail}")

    def _tail(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").splitlines()[-TAIL:]
        return "\n  ".join([f"The end of {name}.log:", *lines])
