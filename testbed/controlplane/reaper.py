"""The reaper: ends a control plane's processes and removes its directory when the test run is over.

Runs as a process of its own, the leader of the process group that all programs of a plane join.
Its standard input is a pipe whose other end only the test run holds, so end of file means that the
run has stopped the plane or is dead, even by SIGKILL. `PR_SET_PDEATHSIG` would be shorter, but
it fires when the *thread* that started a program ends, and pytest's fixtures may run in any thread.
"""

import os
import shutil
import signal
import sys
from contextlib import suppress

import psutil


def reap(directory: str) -> None:
    """Wait for the end of standard input, then kill the own process group and remove the directory."""
    # The test run handles Ctrl-C and a closing terminal; the reaper waits for the end of the test run.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    sys.stdin.read()
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if pid != os.getpid() and os.getpgid(pid) == os.getpgrp():
                os.kill(pid, signal.SIGKILL)
    # A process that is still exiting may write another file.
    for _ in range(50):
        shutil.rmtree(directory, ignore_errors=True)
        if not os.path.exists(directory):  # noqa: PTH110 - a process that starts fast imports little
            break


if __name__ == "__main__":
    reap(sys.argv[1])
