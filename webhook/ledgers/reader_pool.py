"""The worker processes: which one visits which database, and what becomes of its visits when a worker dies.

A tenant (a namespace) is always read in the same worker, once its database has answered. A database that was never read
is visited by a worker for newcomers. A database whose visit has ended a worker is a suspect: a worker for suspects
visits one at a time, and seldom. All other databases are visited again at once.
"""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

import msgspec

from migrations.reader import wire
from webhook.kube.reflector import Key
from webhook.ledgers.reader_process import ReaderProcess, WorkerEnd
from webhook.telemetry import isolated, log_event

WORKERS = 2
SUSPECT_SECONDS = 900.0
"""How long a database is read alone after its visit has ended a worker; more than the longest penalty."""
FIRST_PENALTY, LONGEST_PENALTY = 5.0, 600.0
"""Seconds until a database whose visit has ended a worker is visited again; doubled each time."""
LEAVE_SECONDS = 5.0
"""How long a visit may take to end; then the worker hangs because of it."""
PARDON_SECONDS = 60.0
"""Between two pardons of a database at least: a user who may edit its Secret could end a worker with each edit."""
RESTART_SECONDS = 0.5
"""Between two starts of the same worker, at least."""
IDLE_SECONDS = 30.0
"""How long the workers for newcomers and suspects stay without a visit."""


@dataclass(slots=True)
class Job:
    """One visit.

    Args:
        database: the namespace and the Secret's name.
        on_answer: called with each answer.
        ended: done when the visit has ended; its result is the end of the worker, if that ended the visit.
    """

    number: int
    database: Key
    on_answer: Callable[[wire.Answer], None]
    process: ReaderProcess
    ended: asyncio.Future[WorkerEnd | None]

    def poll(self, *, urgent: bool) -> None:
        """Have the ledgers read now, and from now on as often as ``urgent`` says."""
        if not self.ended.done():
            self.process.send(wire.Poll(self.number, urgent))


@dataclass(slots=True)
class _Record:
    """What is remembered of one database.

    Args:
        answered: it was read.
        suspected: it was being read when a worker died, and which of the visits did it is not known.
        spared: it was being read alone when the worker was killed from outside, and was not read since.
        strikes: how many workers its visits have ended.
        pardoned: its Secret was edited since the last strike.
    """

    answered: bool = False
    suspected: bool = False
    spared: bool = False
    strikes: int = 0
    struck_at: float = float("-inf")
    pardoned: bool = False
    pardoned_at: float = float("-inf")


@dataclass(slots=True)
class _Worker:
    """One worker of the pool; its process starts with the first visit."""

    name: str
    process: ReaderProcess | None = None
    task: asyncio.Task[None] | None = None
    started_at: float = float("-inf")
    idle_since: float = 0.0
    jobs: dict[int, Job] = field(default_factory=dict)


class ReaderPool:
    """The worker processes of the leader, from ``async with`` to its end.

    Args:
        size: how many workers the tenants share.
    """

    def __init__(self, size: int = WORKERS) -> None:
        self._shared = [_Worker(f"shared-{number}") for number in range(size)]
        self._newcomers = _Worker("newcomers")
        self._suspects = _Worker("suspects")
        self._alone = asyncio.Lock()
        self._records: dict[Key, _Record] = {}
        self._numbers = 0

    async def __aenter__(self) -> Self:
        self._reaper = asyncio.create_task(self._reap())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [self._reaper, *(worker.task for worker in self._workers if worker.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """End every worker, and with it every visit, at once."""
        for worker in self._workers:
            if worker.process is not None:
                worker.process.stop()

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def may_follow(self, database: Key) -> bool:
        """Return whether a visit to a database may last: it was read before, and is no suspect."""
        return self._worker_for(database) in self._shared

    def penalty(self, database: Key) -> float:
        """Return the seconds until a database may be visited again; 0 unless its visits have ended workers."""
        record = self._records.get(database)
        if record is None or not record.strikes or record.pardoned:
            return 0.0
        pause = min(FIRST_PENALTY * 2.0 ** (record.strikes - 1), LONGEST_PENALTY)
        return max(0.0, record.struck_at + pause - _now())

    def pardon(self, database: Key) -> None:
        """Let a database be visited at once, but still alone: its address is not the one that has ended workers."""
        record = self._records.get(database)
        if record is not None and _now() - record.pardoned_at > PARDON_SECONDS:
            record.pardoned, record.pardoned_at = True, _now()

    def forget(self, database: Key) -> None:
        """Forget a database that no gate names any more; but keep one that has ended a worker, as it may come back."""
        record = self._records.get(database)
        if record is not None and not record.strikes:
            del self._records[database]

    @asynccontextmanager
    async def visit(
        self, database: Key, request: wire.Visit, on_answer: Callable[[wire.Answer], None]
    ) -> AsyncIterator[Job]:
        """Begin a visit, and end it with the block.

        Args:
            database: the namespace and the Secret's name.
            request: what to read; its number is set here.

        Raises:
            FrameTooLarge: the request exceeds the limit.
        """
        if self._worker_for(database) is not self._suspects:
            async with self._visiting(database, request, on_answer) as job:
                yield job
            return
        async with self._alone, self._visiting(database, request, on_answer) as job:
            yield job

    @asynccontextmanager
    async def _visiting(
        self, database: Key, request: wire.Visit, on_answer: Callable[[wire.Answer], None]
    ) -> AsyncIterator[Job]:
        worker = self._worker_for(database)  # after the wait for `_alone`, the database may be no suspect any more
        process = await self._started(worker)
        self._numbers += 1
        job = Job(self._numbers, database, on_answer, process, asyncio.get_running_loop().create_future())
        process.send(msgspec.structs.replace(request, job=job.number))
        worker.jobs[job.number] = job
        try:
            yield job
        finally:
            if not job.ended.done():
                process.send(wire.Leave(job.number))
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEAVE_SECONDS):
                        await asyncio.shield(job.ended)
            if not job.ended.done():
                process.kill("a visit did not end", job.number)
            worker.jobs.pop(job.number, None)
            worker.idle_since = _now()

    def _worker_for(self, database: Key) -> _Worker:
        record = self._records.get(database)
        if record is None:
            return self._newcomers
        if record.suspected or _now() - record.struck_at < SUSPECT_SECONDS:
            return self._suspects
        if not record.answered:
            return self._newcomers
        return self._shared[zlib.crc32(database[0].encode()) % len(self._shared)]

    @property
    def _workers(self) -> list[_Worker]:
        return [*self._shared, self._newcomers, self._suspects]

    async def _started(self, worker: _Worker) -> ReaderProcess:
        """Return the process of a worker, started now if there is none."""
        while worker.process is None:
            pause = worker.started_at + RESTART_SECONDS - _now()
            if pause <= 0:
                worker.started_at = _now()
                worker.process = process = ReaderProcess(lambda answer: self._pass_on(worker, answer))
                worker.task = asyncio.create_task(self._tend(worker, process))
            else:
                await asyncio.sleep(pause)
        return worker.process

    async def _tend(self, worker: _Worker, process: ReaderProcess) -> None:
        end = await process.run()
        worker.process = None
        jobs, worker.jobs = worker.jobs, {}
        if not process.stopped:
            self._blame(worker, end, jobs)
        for job in jobs.values():
            if not job.ended.done():
                job.ended.set_result(end)

    def _blame(self, worker: _Worker, end: WorkerEnd, jobs: Mapping[int, Job]) -> None:
        """Note which visit has ended a worker; where that is not known, each of its databases is read alone once.

        A kill from outside, by the node for want of memory or by a person, proves nothing against a visit that ran at
        that moment. But a database may have filled the memory. So it counts only where it happens twice while the same
        database is read alone.
        """
        culprit = jobs.get(end.job)
        log_event(
            "reader.ended",
            level=logging.WARNING,
            worker=worker.name,
            reason=end.reason,
            secret="/".join(culprit.database) if culprit else "",
            visits=len(jobs),
        )
        for job in jobs.values() if culprit is None else (culprit,):
            record = self._records.setdefault(job.database, _Record())
            alone = worker is self._suspects
            if (alone and record.spared) or not (end.from_outside or (culprit is None and not alone)):
                self._strike(job.database)
            else:
                record.suspected = True
                record.spared = alone

    def _strike(self, database: Key) -> None:
        record = self._records.setdefault(database, _Record())
        record.strikes += 1
        record.struck_at = _now()
        record.suspected = record.pardoned = record.spared = False

    def _pass_on(self, worker: _Worker, answer: wire.Answer) -> None:
        job = None if isinstance(answer, wire.Pong) else worker.jobs.get(answer.job)
        if job is None:
            return
        if isinstance(answer, wire.Left):
            if not job.ended.done():
                job.ended.set_result(None)
            return
        if isinstance(answer, wire.Reading):
            record = self._records.setdefault(job.database, _Record())
            record.answered = True
            record.suspected = record.spared = False
        with isolated("answer.failed", secret="/".join(job.database)):
            job.on_answer(answer)

    async def _reap(self) -> None:
        """Stop the workers for newcomers and suspects while they have no visit; forget old strikes."""
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            for worker in (self._newcomers, self._suspects):
                if worker.process is not None and not worker.jobs and _now() - worker.idle_since > IDLE_SECONDS:
                    worker.process.stop()
            for database, record in tuple(self._records.items()):
                if record.strikes and _now() - record.struck_at > 2 * SUSPECT_SECONDS:
                    del self._records[database]  # a newcomer once more


def _now() -> float:
    return asyncio.get_running_loop().time()
