"""One worker process that reads databases: its start, its frames, and its end.

The process is started with an empty environment and no open file but the socket to it, so it has no credentials of the
cluster. It limits itself (:mod:`migrations.reader.worker`); here it is watched, and killed where it hangs.
"""

import asyncio
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migrations.reader import wire
from migrations.reader.meter import MARK_BYTES

PING_SECONDS = 0.5
SILENCE_CPU_SECONDS = 2.0
"""CPU time that a worker may use without an answer to a ping. The largest ledger takes half a second."""
SILENCE_SECONDS = 10.0
"""Time that a worker may leave a ping without an answer, whether it works or not."""
RESIDENT_BYTES = 192 * 1024**2
"""Memory at which a worker is killed; it ends itself at less, where it still can."""
END_SECONDS, END_PAUSE = 1.0, 0.01
"""How long a process may go on after it has closed its socket, and the time between two looks."""
SAMPLES = 10
"""Looks at the mark before a worker is killed: the visit that it is busy with most often is blamed."""

_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "1",  # an arena for each thread would use up the address space
    "RES_OPTIONS": "timeout:1 attempts:2",  # resolv.conf(5); a thread that resolves cannot be ended
}
_COMMAND = (sys.executable, "-I", "-m", "migrations.reader.worker")


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How a worker process ended.

    Args:
        reason: what happened.
        job: the visit that did it; 0 where that is not known.
        from_outside: another process or the kernel killed it, for example for want of memory on the node; `job` is then
            the visit that ran at that moment.
    """

    reason: str
    job: int = 0
    from_outside: bool = False


class ReaderProcess:
    """One worker process.

    Args:
        on_answer: called with each answer but those to pings.
    """

    def __init__(self, on_answer: Callable[[wire.Answer], None]) -> None:
        self._on_answer = on_answer
        self._answered = 0
        self._killed = ""
        self.stopped = False
        """Whether it was stopped because it was not needed."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        # The mark: the number of the visit that the worker is busy with, which can be read after the worker's death.
        memory = os.memfd_create("ledgergate-reader")
        os.ftruncate(memory, mmap.PAGESIZE)
        self._mark = mmap.mmap(memory, MARK_BYTES)
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                (*_COMMAND, str(memory)),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
                pass_fds=(memory,),
            )
        finally:
            theirs.close()
            os.close(memory)
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, request: wire.Request) -> None:
        """Send a request; nothing happens where the process has ended.

        Raises:
            FrameTooLarge: the request exceeds the limit.
        """
        frame = wire.encode_request(request)
        if self._writer is None:
            self._unsent.append(frame)
        elif not self._writer.is_closing():
            self._writer.write(frame)

    def stop(self) -> None:
        """End it, as it is not needed; `run` then returns."""
        self.stopped = True
        self._process.kill()

    def kill(self, reason: str, job: int = 0) -> None:
        """Kill it, because of a visit; `run` then returns."""
        self._killed = reason
        self._process.kill()  # first: a living worker would write the mark again
        self._mark[:MARK_BYTES] = job.to_bytes(MARK_BYTES, "big")

    async def run(self) -> WorkerEnd:
        """Pass on its answers until it ends; kill it when it misbehaves, or when this is cancelled."""
        try:
            limit = 2 * wire.MAX_ANSWER_BYTES
            reader, self._writer = await asyncio.open_unix_connection(sock=self._socket, limit=limit)
            for frame in self._unsent:
                self._writer.write(frame)
            watch = asyncio.create_task(self._watch())
            try:
                await self._pass_on(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                await self._await_end()
            except (wire.FrameTooLarge, msgspec.DecodeError) as error:
                self._killed = f"an answer cannot be read: {error}"
            finally:
                watch.cancel()
        finally:
            self._process.kill()
            if self._writer is not None:
                self._writer.close()
            else:
                self._socket.close()
            status = self._process.wait()  # at once: it was killed
        from_outside = not self._killed and status == -signal.SIGKILL
        reason = "it was killed from outside" if from_outside else f"it ended with status {status}"
        end = WorkerEnd(self._killed or reason, self._marked(), from_outside)
        self._mark.close()
        return end

    async def _await_end(self) -> None:
        """Wait for the end of a process that has closed its socket: its exit status shows why, unless it is killed."""
        for _ in range(round(END_SECONDS / END_PAUSE)):
            if self._process.poll() is not None:
                return
            await asyncio.sleep(END_PAUSE)
        self._killed = self._killed or "it has closed its socket"

    async def _pass_on(self, reader: asyncio.StreamReader) -> None:
        while True:
            header = await reader.readexactly(wire.HEADER_BYTES)
            length = wire.frame_length(header, wire.MAX_ANSWER_BYTES)
            answer = wire.decode_answer(await reader.readexactly(length))
            if isinstance(answer, wire.Pong):
                self._answered = answer.number
            else:
                self._on_answer(answer)

    async def _watch(self) -> None:
        """Kill the process when it does not answer, or uses too much memory."""
        clock = asyncio.get_running_loop().time
        number = 0
        with suppress(OSError, ValueError, IndexError):  # the process has ended: /proc has no entry for it any more
            while True:
                number += 1
                asked, used = clock(), _cpu_seconds(self.pid)
                self.send(wire.Ping(number))
                while True:
                    await asyncio.sleep(PING_SECONDS)
                    if _resident_bytes(self.pid) > RESIDENT_BYTES:
                        await self._kill_busy("it used too much memory")
                        return
                    if self._answered == number:
                        break
                    if _cpu_seconds(self.pid) - used > SILENCE_CPU_SECONDS or clock() - asked > SILENCE_SECONDS:
                        await self._kill_busy("it did not answer")
                        return

    async def _kill_busy(self, reason: str) -> None:
        """Kill it, because of the visit that it is busy with."""
        seen = Counter[int]()
        for _ in range(SAMPLES):
            seen[self._marked()] += 1
            await asyncio.sleep(0.01)
        del seen[0]  # no visit
        self.kill(reason, seen.most_common(1)[0][0] if seen else 0)

    def _marked(self) -> int:
        return int.from_bytes(self._mark[:MARK_BYTES], "big")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return float(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
