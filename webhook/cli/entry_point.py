"""The console script ``ledgergate``: a process that starts and ends without paying for what it does not use.

Thousands of pods run `ledgergate migrate up` and find nothing to do; most of what that takes is Python's start and end.
"""

import atexit
import gc
import os
import sys
import threading
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, and end the process with its exit code."""
    gc.disable()  # what is imported is no garbage; the command that was chosen turns it on again
    from webhook.cli.main import main as command_line  # noqa: PLC0415 - not before that

    try:
        command_line()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _leave(ended.code)
        raise
    sys.exit()


def _leave(code: int) -> None:
    """End at once: to take every module apart, for memory that the system takes back anyway, is a ninth of a short run.

    Returns where that would lose something: a thread still works, or what was written cannot be handed on.
    """
    if threading.active_count() > 1:
        return
    atexit._run_exitfuncs()  # noqa: SLF001 - `os._exit` leaves them out; multiprocessing does the same for its children
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return  # the interpreter's own end reports it
    os._exit(code)
