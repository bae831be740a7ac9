"""Runs one command as if it were ourselves: our streams, our signals, and nothing of it lives longer than we do.

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

GRACE = 10.0
"""Seconds from the first signal to SIGKILL."""
_UNKILLABLE = 2.0  # seconds after SIGKILL; what is left then waits for the kernel, or for whoever has to reap it
_LOOK = 0.02  # seconds between two looks whether anything of the command is left

# Whoever is killed by SIGKILL can tidy nothing up, but the other end of a pipe notices. This one is the leader of the
# command's process group and kills all of it, `npx` and what `npx` has started alike. PR_SET_PDEATHSIG would reach the
# first process alone. Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_GUARD = ("/bin/sh", "-c", "trap '' HUP INT QUIT TERM; read -r _ || kill -KILL 0")
_PR_SET_CHILD_SUBREAPER = 36  # https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html


class ChildError(Exception):
    """The command cannot be started."""


def require_program(command: Sequence[str]) -> None:
    """See that a program is there before anybody waits for a lock.

    Raises:
        ChildError: It is not; the message says where it was looked for.
    """
    if shutil.which(command[0]) is None:
        where = "there" if os.sep in command[0] else "on PATH"
        raise ChildError(f"expected a program that can be run, found no {command[0]!r} {where}")


def describe_exit(command: Sequence[str], code: int) -> str:
    """Say how a command ended.

    Args:
        command: With its arguments; only its name is said, since arguments may hold secrets.
        code: Its exit code, or the negative number of the signal that ended it.
    """
    how = f"exited with {code}" if code >= 0 else f"was ended by {_name(-code)}"
    return f"{shlex.quote(os.path.basename(command[0]))} {how}"  # noqa: PTH119 - a word of a command line


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class ChildProcess:
    """One run of a command, in a process group of its own."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, *, grace: float = GRACE
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            command: The program and its arguments.
            environment: The whole of it; None for our own.
            grace: Seconds between the first `stop` and SIGKILL.
        """
        self._command = command
        self._environment = environment
        self._grace = grace
        self._group = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped_early: signal.Signals | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Run it to its end, and end what it leaves running; gives the exit code, or minus the signal that ended it.

        Must be called in the main thread, and be the only one here that starts processes: all that end are reaped, as
        the first process of a container has to. A cancelled run stops the command, and ends when it has ended.

        Raises:
            ChildError: It cannot be started.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        _adopt_orphans()
        guard = _start_guard()
        self._group = guard.pid
        try:
            with _terminal(self._group):
                process = self._process = self._start()
                loop.add_signal_handler(signal.SIGCHLD, _reap, process, ended)
                _reap(process, ended)  # it may have ended before we listened
                if self._stopped_early is not None:
                    self.stop(self._stopped_early)
                code = await self._patiently(ended)
                await self._tidy_up(guard)
                return code
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)
            self._kill()
            guard.communicate()
            if self._deadline is not None:
                self._deadline.cancel()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to all of it; what still runs after the grace period is killed."""
        if self._process is None:
            self._stopped_early = number
            return
        self._send(number)
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(self._grace, self._kill)

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(self._command, env=self._environment, process_group=self._group)
        except OSError as error:
            raise ChildError(f"{self._command[0]!r} cannot be run: {error.strerror}") from error

    async def _patiently(self, ended: asyncio.Future[int]) -> int:
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            self.stop()
            await ended
            raise

    async def _tidy_up(self, guard: subprocess.Popen[bytes]) -> None:
        """End what the command has left running: nobody else may begin while a part of it is at work."""
        guard.kill()
        guard.wait()
        loop = asyncio.get_running_loop()
        given_up = loop.time() + self._grace + _UNKILLABLE
        while self._send(0) and loop.time() < given_up:
            if self._deadline is None:
                self.stop()
            await asyncio.sleep(_LOOK)
        self._group = 0

    def _kill(self) -> None:
        if self._group:
            self._send(signal.SIGKILL)

    def _send(self, number: int) -> bool:
        """Send a signal to the group, and tell whether there was anybody."""
        with suppress(ProcessLookupError):
            os.killpg(self._group, number)
            return True
        return False


def _start_guard() -> subprocess.Popen[bytes]:
    return subprocess.Popen(_GUARD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0)


def _adopt_orphans() -> None:
    """Be who reaps what the command leaves, as the first process of a container is; else a zombie looks alive."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux; elsewhere whoever else adopts them
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(process: subprocess.Popen[bytes], ended: asyncio.Future[int]) -> None:
    """Take note of every process that has ended, ours or an orphan's that was handed to us."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid == process.pid and not ended.done():
                process.returncode = os.waitstatus_to_exitcode(status)
                ended.set_result(process.returncode)


@contextmanager
def _terminal(group: int) -> Iterator[None]:
    """Let the command's group have the terminal, where it is ours: it may ask questions, and Ctrl-C is for it.

    Source: https://www.gnu.org/software/libc/manual/html_node/Foreground-and-Background.html
    """
    try:
        ours = os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        ours = False
    if not ours:
        yield
        return
    os.tcsetpgrp(0, group)
    try:
        yield
    finally:
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # who is in the background may not take it back
        with suppress(OSError):
            os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)
