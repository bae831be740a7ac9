"""A worker process: reads the databases that its parent names, and knows nothing else.

`python -m migrations.reader.worker MEMORY`, with a socket to the parent as standard input, and shared memory for the
`Meter` as file descriptor MEMORY. It is started with an empty environment and no other file, imports only what reading
needs, and limits itself before it connects anywhere. It ends with its parent.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from migrations.core.networks import HostPolicy
from migrations.core.snapshot import Fault
from migrations.reader import wire
from migrations.reader.meter import JOB, MARK_BYTES, Meter
from migrations.reader.names import DESTINATIONS, STACK_BYTES, TENANT, Destinations, ResolvingLoop
from migrations.reader.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Mapping

ADDRESS_SPACE = 320 * 1024**2
"""Bytes. At rest a worker has 37 MiB of addresses, of which it uses 32; each resolver's thread adds a stack."""
RESIDENT = 128 * 1024**2
"""Bytes of memory in use at which the worker ends itself. The largest ledger takes about 60 MiB while it is read."""
OPEN_FILES = 512
LOOK_SECONDS = 15.0
"""Seconds that a visit without `follow` may take."""
SUPERVISION_SECONDS = 0.1  # between two checks of memory and CPU time
WINDOW_SECONDS = 3.0
WINDOW_SHARE = 0.5
"""Share of a window that the CPU time of one visit may take. A visit that takes more is ended: its server sends without
end."""

_PR_SET_PDEATHSIG = 1
EXIT_GROWN = 71
"""Exit status of a worker that used too much memory; the mark says which visit did."""


class Worker:
    """Carries out what the parent asks for.

    Args:
        reader: The parent's requests.
        writer: Where the answers go.
        meter: What the visits cost.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meter: Meter) -> None:
        self._reader = reader
        self._writer = writer
        self._meter = meter
        self._visits: dict[int, tuple[asyncio.Task[None], Visitor]] = {}
        self._total: dict[int, float] = {}
        self._evicted: set[int] = set()
        self._window: Mapping[int, float] = {}

    async def run(self) -> None:
        """Work until the parent closes the socket."""
        supervision = asyncio.create_task(self._supervise())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await self._reader.readexactly(wire.HEADER_BYTES)
                length = wire.frame_length(header, wire.MAX_REQUEST_BYTES)
                await self._handle(wire.decode_request(await self._reader.readexactly(length)))
        supervision.cancel()

    async def _handle(self, request: wire.Request) -> None:
        match request:
            case wire.Ping(number):
                await self._send(wire.Pong(number))
            case wire.Visit():
                visitor = Visitor(request, self._send, lambda: self._spent(request.job))
                self._visits[request.job] = asyncio.create_task(self._carry_out(request, visitor)), visitor
                await asyncio.sleep(0)  # lets the task begin: one that is cancelled before never sends `Left`
            case wire.Poll(job, urgent) if job in self._visits:
                self._visits[job][1].poll(urgent=urgent)
            case wire.Leave(job) if job in self._visits:
                self._visits[job][0].cancel()
            case _:
                pass  # the visit has ended meanwhile

    async def _carry_out(self, visit: wire.Visit, visitor: Visitor) -> None:
        # This task has a context of its own: whatever it opens is metered, resolved and checked as this visit's.
        JOB.set(visit.job)
        TENANT.set(visit.tenant)
        DESTINATIONS.set(Destinations(HostPolicy.parse(visit.allowed)))
        try:
            async with asyncio.timeout(None if visit.follow else LOOK_SECONDS):
                await visitor.run()
        except TimeoutError:
            text = f"the database did not answer within {LOOK_SECONDS:g} s"
            await self._send(wire.FaultFound(visit.job, None, Fault.UNREACHABLE, "", text))
        except asyncio.CancelledError:
            if visit.job in self._evicted:
                text = "the server sends more than can be read: the session was ended"
                await self._send(wire.FaultFound(visit.job, None, Fault.UNREACHABLE, "", text, hostile=True))
        except MemoryError:
            self._end_as_grown()
        finally:
            del self._visits[visit.job]
            self._total.pop(visit.job, None)
            self._evicted.discard(visit.job)
            await self._send(wire.Left(visit.job))

    async def _send(self, answer: wire.Answer) -> None:
        self._writer.write(wire.encode_answer(answer))
        await self._writer.drain()

    def _spent(self, job: int) -> float:
        return self._total.get(job, 0.0) + self._meter.spent.get(job, 0.0)

    async def _supervise(self) -> None:
        """End visits to servers that send without end, and this process when it uses too much memory."""
        window: dict[int, float] = {}
        clock = asyncio.get_running_loop().time
        ends = clock() + WINDOW_SECONDS
        while True:
            await asyncio.sleep(SUPERVISION_SECONDS)
            for job, seconds in self._meter.take().items():
                window[job] = window.get(job, 0.0) + seconds
                if job in self._visits:
                    self._total[job] = self._total.get(job, 0.0) + seconds
            self._window = window
            if resident_bytes() > RESIDENT:
                self._end_as_grown()
            for job, seconds in window.items():
                if seconds > WINDOW_SECONDS * WINDOW_SHARE and job in self._visits and job not in self._evicted:
                    self._evicted.add(job)
                    self._visits[job][0].cancel()
            if clock() > ends:
                window, ends = {}, clock() + WINDOW_SECONDS

    def _end_as_grown(self) -> None:
        """End the process at once. The mark names the busiest visit, which is taken for the one that fills memory."""
        cost = {**self._window}
        for job, seconds in self._meter.spent.items():
            cost[job] = cost.get(job, 0.0) + seconds
        self._meter.mark(max(cost, key=cost.__getitem__, default=0))
        os._exit(EXIT_GROWN)


def resident_bytes(pid: int | str = "self") -> int:
    """Return the memory that a process uses.

    Raises:
        OSError: There is no such process.
    """
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def main() -> None:
    """Work until the parent ends."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # the parent ended before the signal was asked for
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_AS, ADDRESS_SPACE),
    ):
        resource.setrlimit(limit, (value, value))
    with suppress(OSError):  # where memory is short, the kernel ends a worker before the parent
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # at Ctrl-C or a pod's end; a worker ends with its parent
    threading.stack_size(STACK_BYTES)
    meter = Meter(mmap.mmap(int(sys.argv[1]), MARK_BYTES))
    meter.install()
    loop = ResolvingLoop()
    loop.set_exception_handler(lambda *_: None)  # errors that a server causes in callbacks of the driver
    loop.run_until_complete(_work(meter))
    os._exit(0)  # without waiting for what resolves or decodes


async def _work(meter: Meter) -> None:
    channel = socket.socket(fileno=os.dup(0))
    reader, writer = await asyncio.open_unix_connection(sock=channel, limit=2 * wire.MAX_REQUEST_BYTES)
    await Worker(reader, writer, meter).run()


if __name__ == "__main__":
    main()
