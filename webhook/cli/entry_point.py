"""The console script ``ledgergate``, which starts and ends without paying for what it does not use.

Most runs are `ledgergate migrate up` in a pod that starts, with nothing to do. Their time is that of Python's start and
end.
"""

import atexit
import gc
import io
import os
import sys
import threading
from typing import Any, NoReturn


def main() -> NoReturn:
    """Run the command line, and end the process with its exit code."""
    # Imports allocate much and free little, so collecting meanwhile is wasted. A short run ends below this threshold;
    # what runs for long, such as a large Python migration, is still collected. `webhook.cli.serve` sets its own.
    gc.set_threshold(50_000)
    _outlive_readers()
    from webhook.cli.main import main as command_line  # noqa: PLC0415 - after gc.set_threshold()

    try:
        command_line()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _exit_at_once(ended.code)
        raise
    sys.exit()


class _LastingFile(io.FileIO):
    """A standard stream that discards what it cannot write: nothing reads it, as in `up | head -1`, or a disk is full.

    An error would end a run between two migrations, and click ends with 1 and without a message.

    Attributes:
        failure: The error, other than a closed pipe, by which output was lost; None while there was none.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write to the reader, or to nothing from the first failure on."""
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failure = error
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return len(memoryview(data).cast("B"))


def _outlive_readers() -> None:
    """Let the standard streams outlive their readers, and open those without which the process was started."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open as long as we run
        elif isinstance(stream, io.TextIOWrapper):  # not a stream that an embedding program has put there
            file = io.BufferedWriter(_LastingFile(stream.fileno(), "w", closefd=False))
            lasting = io.TextIOWrapper(file, stream.encoding, stream.errors, None, stream.line_buffering)
            lasting.reconfigure(write_through=stream.write_through)  # PYTHONUNBUFFERED
            setattr(sys, name, lasting)


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
    os._exit(code or _report_lost_output())


def _report_lost_output() -> int:
    """Report on standard error that output was lost; return the exit code for that, 0 where none was."""
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(file, _LastingFile) or file.failure is None:
        return 0
    sys.stderr.write(f"error: the output could not be written: {file.failure.strerror}\n")
    sys.stderr.flush()
    return 1
