"""Running one command in place of this process: it gets our streams and signals, and does not outlive us.

ChildError   the command cannot be started
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GRACE_PERIOD = 10.0
"""Seconds from the first signal to SIGKILL."""
_KILL_TIMEOUT = 2.0  # seconds after SIGKILL; a process that is left then hangs in the kernel, or is not ours to reap
_POLL_INTERVAL = 0.02  # seconds between two checks whether a process of the command is left

# A process that is killed by SIGKILL cannot end its children, but the kernel closes its end of a pipe. The watchdog
# reads the other end. It is the leader of the command's process group, and at the end of the pipe kills the whole
# group: `npx`, and what `npx` has started. PR_SET_PDEATHSIG would kill only the first process.
# Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_WATCHDOG = ("/bin/sh", "-c", "trap '' HUP INT QUIT TERM; read -r _ || kill -KILL 0")
_PR_SET_CHILD_SUBREAPER = 36  # https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html


class ChildError(Exception):
    """The command cannot be started."""


def require_program(command: Sequence[str]) -> None:
    """Check that the program exists; to be called before waiting for a lock.

    Raises:
        ChildError: It does not exist; the message says where it was looked for.
    """
    if shutil.which(command[0]) is None:
        where = "there" if os.sep in command[0] else "on PATH"
        raise ChildError(f"expected a program that can be run, found no {command[0]!r} {where}")


def describe_exit(command: Sequence[str], code: int) -> str:
    """Return how a command ended, as a clause.

    Args:
        command: The program and its arguments, of which only the program's name is shown: arguments may hold secrets.
        code: Its exit code, or the negative number of the signal that ended it.
    """
    how = f"exited with {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"
    return f"{shlex.quote(os.path.basename(command[0]))} {how}"  # noqa: PTH119 - a word of a command line


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class ChildProcess:
    """One run of a command, in a process group of its own."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        grace_period: float = GRACE_PERIOD,
    ) -> None:
        """Create the child; `run` starts it.

        Args:
            command: The program and its arguments.
            environment: The complete environment; None for that of this process.
            grace_period: Seconds between the first `stop` and SIGKILL.
        """
        self._command = command
        self._environment = environment
        self._grace_period = grace_period
        self._group = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._early_signal: signal.Signals | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Run the command, end what it leaves running, and return its exit code, or minus the signal that ended it.

        Must be called in the main thread of a process that starts no other children: it reaps every child that ends, as
        the first process of a container has to. A cancelled run stops the command, and ends after it.

        Raises:
            ChildError: The command cannot be started.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        _adopt_orphans()
        watchdog = _start_watchdog()
        self._group = watchdog.pid
        try:
            with _foreground(self._group):
                process = self._process = self._start()
                loop.add_signal_handler(signal.SIGCHLD, _reap, process, ended)
                _reap(process, ended)  # it may have ended before the handler was set
                if self._early_signal is not None:
                    self.stop(self._early_signal)
                code = await self._wait_or_stop(ended)
                await self._end_remaining(watchdog)
                return code
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)
            self._kill()
            watchdog.communicate()
            if self._deadline is not None:
                self._deadline.cancel()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the process group, and SIGKILL to what still runs after the grace period."""
        if self._process is None:
            self._early_signal = number
            return
        self._send(number)
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(self._grace_period, self._kill)

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(self._command, env=self._environment, process_group=self._group)
        except OSError as error:
            raise ChildError(f"{self._command[0]!r} cannot be run: {error.strerror}") from error

    async def _wait_or_stop(self, ended: asyncio.Future[int]) -> int:
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            self.stop()
            await ended
            raise

    async def _end_remaining(self, watchdog: subprocess.Popen[bytes]) -> None:
        """End what the command has left running: the next run must not begin while a part of it still works."""
        watchdog.kill()  # it belongs to the group, which has to become empty below
        watchdog.wait()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grace_period + _KILL_TIMEOUT
        while self._send(0) and loop.time() < deadline:
            if self._deadline is None:
                self.stop()
            await asyncio.sleep(_POLL_INTERVAL)
        self._group = 0

    def _kill(self) -> None:
        if self._group:
            self._send(signal.SIGKILL)

    def _send(self, number: int) -> bool:
        """Send a signal to the process group, and return whether it has a process; signal 0 only asks."""
        with suppress(ProcessLookupError):
            os.killpg(self._group, number)
            return True
        return False


def _start_watchdog() -> subprocess.Popen[bytes]:
    return subprocess.Popen(_WATCHDOG, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0)


def _adopt_orphans() -> None:
    """Become the parent of orphaned descendants, as the first process of a container is.

    Otherwise their zombies would stay in the process group, and look as if they still ran.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only; elsewhere init adopts them
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(process: subprocess.Popen[bytes], ended: asyncio.Future[int]) -> None:
    """Reap every child that has ended, the command or an adopted orphan."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid == process.pid and not ended.done():
                process.returncode = os.waitstatus_to_exitcode(status)
                ended.set_result(process.returncode)


@contextmanager
def _foreground(group: int) -> Iterator[None]:
    """Make the command's process group the foreground group of our terminal, if there is one.

    Only the foreground group may read from the terminal, and gets the signal of Ctrl-C.

    Source: https://www.gnu.org/software/libc/manual/html_node/Foreground-and-Background.html
    """
    try:
        in_foreground = os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        in_foreground = False
    if not in_foreground:
        yield
        return
    os.tcsetpgrp(0, group)
    try:
        yield
    finally:
        # A background group that takes the terminal back gets SIGTTOU, which would stop this process.
        handler = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with suppress(OSError):
            os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, handler)
