"""One run of a container as a process of this machine."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.cluster.container import Image

TERMINATION_LOG = "LEDGERGATE_TERMINATION_LOG"
"""Variable with the path that replaces /dev/termination-log, which all processes here would share."""

LONGEST_MESSAGE = 4096
COULD_NOT_START = 128


@dataclass(frozen=True, slots=True)
class Run:
    """A snapshot of one run of a container.

    Attributes:
        started, ended: Unix time; `ended` is 0 while it runs.
        code: Exit code, 128 + n for signal n as container runtimes report it; -1 while it runs.
        output: Its standard output and standard error.
    """

    pod: str
    container: str
    command: tuple[str, ...]
    started: float
    ended: float
    code: int
    output: str


class ContainerProcess:
    """One run of a container.

    Args:
        pod: the pod's name.
        container: the container's name.
        stem: path of its files without suffix.
    """

    def __init__(self, pod: str, container: str, stem: Path) -> None:
        self.pod = pod
        self.container = container
        self.log = stem.with_name(f"{stem.name}.log")
        self.log.touch()
        self._termination_log = stem.with_name(f"{stem.name}.end")
        self._command: tuple[str, ...] = ()
        self._process: asyncio.subprocess.Process | None = None
        self._started = time.time()
        self._ended = 0.0
        self._code = -1

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return bool(self._ended)

    def seen(self) -> Run:
        """Return a snapshot."""
        output = self.log.read_text(errors="replace")
        return Run(self.pod, self.container, self._command, self._started, self._ended, self._code, output)

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to all its processes; return False if there are none (yet, or any more)."""
        if self._process is not None and not self.ended:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
                return True
        return False

    async def run(self, command: Sequence[str], image: Image, variables: Mapping[str, str]) -> int:
        """Run it to its end and return its exit code; on cancellation its processes are killed."""
        self._command = tuple(command)
        code = 128 + signal.SIGKILL
        try:
            with self.log.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=image.directory,
                    env={**variables, TERMINATION_LOG: str(self._termination_log)},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            ended = await self._process.wait()
            code = ended if ended >= 0 else 128 - ended
        except OSError as error:
            code = self.refuse(error)
        except asyncio.CancelledError:
            self.signal(signal.SIGKILL)
            if self._process is not None:
                await self._process.wait()  # the loop may be closed next: the child must be reaped before
            raise
        finally:
            self.signal(signal.SIGKILL)  # background processes end with the main one, as in a container
            self._code, self._ended = code, time.time()
        return code

    def refuse(self, error: Exception) -> int:
        """Record that it could not be started, and return the exit code for that."""
        self.log.write_text(f"{error}\n")
        self._code, self._ended = COULD_NOT_START, time.time()
        return COULD_NOT_START

    def message(self, policy: str | None) -> str:
        """Return its termination message, by the container's `terminationMessagePolicy`."""
        if self._termination_log.exists():
            return self._termination_log.read_text()[:LONGEST_MESSAGE]
        if self._code and policy == "FallbackToLogsOnError":
            return self.log.read_text(errors="replace")[-LONGEST_MESSAGE:]
        return ""
