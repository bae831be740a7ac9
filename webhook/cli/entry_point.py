"""The console script ``ledgergate``, which starts and ends without paying for what it does not use.

Most runs are `ledgergate migrate up` in a pod that starts, with nothing to do. Their time is that of Python's start and
end.
"""

import atexit
import gc
import os
import sys
import threading
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, and end the process with its exit code."""
    # Imports allocate much and free little, so collecting meanwhile is wasted; `webhook.cli.main` enables it again.
    gc.disable()
    from webhook.cli.main import main as command_line  # noqa: PLC0415 - after gc.disable()

    try:
        command_line()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _exit_at_once(ended.code)
        raise
    sys.exit()


def _exit_at_once(code: int) -> None:
    """End the process without taking its modules apart, which is a ninth of a short run.

    Return where that would lose something: a thread still runs, or buffered output cannot be written.
    """
    if threading.active_count() > 1:
        return
    atexit._run_exitfuncs()  # noqa: SLF001 - `os._exit` skips them; multiprocessing does the same for its children
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return  # the interpreter's own end reports it
    os._exit(code)
