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
"""In the place of /dev/termination-log, which is one file for the whole machine here."""

LONGEST_MESSAGE = 4096
COULD_NOT_START = 128


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container, from its start to its end.

    Attributes:
        started, ended: Unix time; `ended` is 0 while it runs.
        code: Exit code, 128 + n for signal n as a container runtime says it; -1 while it runs.
        output: What it printed, both streams.
    """

    pod: str
    container: str
    command: tuple[str, ...]
    started: float
    ended: float
    code: int
    output: str


class ContainerProcess:
    """One run, as it goes on.

    Args:
        pod: the pod's name.
        container: the container's name.
        stem: path of its files, without suffix.
    """

    def __init__(self, pod: str, container: str, stem: Path) -> None:
        self.pod = pod
        self.container = container
        self.log = stem.with_name(f"{stem.name}.log")
        self.log.touch()
        self._last_words = stem.with_name(f"{stem.name}.end")
        self._command: tuple[str, ...] = ()
        self._process: asyncio.subprocess.Process | None = None
        self._started = time.time()
        self._ended = 0.0
        self._code = -1

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return bool(self._ended)

    def seen(self) -> Run:
        """Give it as a value."""
        output = self.log.read_text(errors="replace")
        return Run(self.pod, self.container, self._command, self._started, self._ended, self._code, output)

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to all its processes; False when there are none (yet, or any more)."""
        if self._process is not None and not self.ended:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
                return True
        return False

    async def run(self, command: Sequence[str], image: Image, variables: Mapping[str, str]) -> int:
        """Run it to its end; returns its exit code. When it is cancelled, its processes are killed."""
        self._command = tuple(command)
        code = 128 + signal.SIGKILL
        try:
            with self.log.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=image.directory,
                    env={**variables, TERMINATION_LOG: str(self._last_words)},
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
                await self._process.wait()  # the loop, which may end now, must not leave it unwaited for
            raise
        finally:
            self.signal(signal.SIGKILL)  # what it left behind ends with it, as the container's processes do
            self._code, self._ended = code, time.time()
        return code

    def refuse(self, error: Exception) -> int:
        """Note that it could not be started; returns the exit code of that."""
        self.log.write_text(f"{error}\n")
        self._code, self._ended = COULD_NOT_START, time.time()
        return COULD_NOT_START

    def message(self, policy: str | None) -> str:
        """Give its last words, by the container's `terminationMessagePolicy`."""
        if self._last_words.exists():
            return self._last_words.read_text()[:LONGEST_MESSAGE]
        if self._code and policy == "FallbackToLogsOnError":
            return self.log.read_text(errors="replace")[-LONGEST_MESSAGE:]
        return ""
