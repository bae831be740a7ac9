"""The database that one Secret names, and the ledgers that gates have in it: visited when the schedule says so.

A visit reads the Secret, takes a turn at the server, and has a worker read every ledger over one session. So what is
known of a database is never older than its Secret, and nothing is held open at rest.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from migrations.core.snapshot import Fault
from migrations.postgres.address import Address
from migrations.reader import wire
from webhook.core.status import Problem
from webhook.kube.reflector import Key
from webhook.ledgers.bindings import LedgerBinding
from webhook.ledgers.reader_pool import Job, ReaderPool
from webhook.ledgers.schedule import Schedule
from webhook.ledgers.secrets import SecretApi, read_address
from webhook.ledgers.turns import Turn, Turns
from webhook.telemetry import isolated, log_event

if TYPE_CHECKING:
    from migrations.core.ledger import Ledger

PARALLEL_SECRETS = 8
"""Secrets that are read at a time; a leader that starts reads them all."""
SECRET_SECONDS = 60.0
URGENT_SECRET_SECONDS = 5.0
"""Between two reads of the Secret while a session lasts; the second while pods wait, as an edit may end the wait."""
SUBSTITUTE_SECONDS = 10.0
"""Between two looks at a database that should be followed and cannot be, because it is read alone, or because no pod
waits and its server has no room."""
SESSIONS_PER_NAMESPACE = 32
"""Sessions that the databases of one namespace have at a time, on whatever servers."""


@dataclass(frozen=True, slots=True)
class Readers:
    """What all databases share.

    Args:
        api: where Secrets are read.
        pool: the worker processes.
        servers: turns at each server.
        namespaces: turns of each namespace.
        application_name: shown in the databases' lists of sessions.
        on_change: called with a gate's key after what is known of its ledger has changed.
        on_read: called with the seconds that each read took.
        secrets: how many Secrets are read at a time.
        allowed_hosts: the servers that may be connected to; empty for any.
    """

    api: SecretApi
    pool: ReaderPool
    servers: Turns
    namespaces: Turns
    application_name: str
    on_change: Callable[[Key], None]
    on_read: Callable[[float], None]
    secrets: asyncio.Semaphore
    allowed_hosts: tuple[str, ...] = ()


class TenantDatabase:
    """One database of a namespace, for as long as a gate names its Secret.

    Args:
        key: namespace and name of the Secret.
    """

    def __init__(self, key: Key, readers: Readers) -> None:
        self.key = key
        self.bindings: dict[Key, LedgerBinding] = {}
        self._readers = readers
        self._schedule = Schedule(random.random)
        self._wake = asyncio.Event()
        self._address: Address | None = None
        self._secret_read = float("-inf")
        self._edited = False
        self._failure: wire.FaultFound | None = None
        self._ledgers: list[list[LedgerBinding]] = []
        self._turns: list[Turn] = []
        self._read: dict[int, Ledger] = {}

    def put(self, binding: LedgerBinding, *, edited: bool) -> None:
        """Add a gate's binding, or note that the gate has changed; the database is then visited at once.

        Args:
            edited: the gate was created or edited just now, and may be again; it was not merely listed at a start.
        """
        self.bindings[binding.gate.key] = binding
        if edited:
            self._schedule.changed(_now())
        self._change()

    def remove(self, gate: Key) -> None:
        """Remove a gate's binding."""
        self.bindings.pop(gate, None)
        self._change()

    def set_urgent(self) -> None:
        """Note that pods have begun, or ceased, to wait for one of the ledgers."""
        urgent = any(binding.urgent for binding in self.bindings.values())
        if urgent is not self._schedule.urgent:
            self._schedule.urgent = urgent
            for turn in self._turns:
                turn.set_urgent(urgent)
            if urgent:
                self._schedule.hurry(_now())
            self._wake.set()

    def pod_created(self, age: float) -> None:
        """Note that a pod was created whose start depends on one of the ledgers.

        Args:
            age: seconds since its creation.
        """
        followed = self._schedule.follows(_now())
        self._schedule.pod_created(_now() - age)
        if not followed and self._schedule.follows(_now()):
            self._schedule.hurry(_now())
            self._wake.set()

    async def run(self) -> None:
        """Visit the database until cancelled; what goes wrong is a fault of its gates."""
        while True:
            done = False
            with isolated("database.failed", secret="/".join(self.key)):
                await self._wait_until_due()
                await self._visit()
                done = True
            if not done:
                self._schedule.failed(_now(), hostile=True)
                for binding in tuple(self.bindings.values()):
                    if binding.failed(Fault.UNREACHABLE, ""):
                        self._notify(binding)

    def _change(self) -> None:
        self._edited = True
        self._schedule.interval = min(
            (binding.gate.look_interval for binding in self.bindings.values()), default=self._schedule.interval
        )
        self._schedule.edited(_now())
        self.set_urgent()
        self._wake.set()

    async def _wait_until_due(self) -> None:
        while True:
            self._wake.clear()
            penalty = self._readers.pool.penalty(self.key)
            left = max(self._schedule.due - _now(), penalty)
            if left <= 0:
                return
            if penalty:
                left = min(left, max(0.0, self._secret_read + self._secret_pause - _now()))
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
            if penalty and _now() >= self._secret_read + self._secret_pause:
                await self._pardon_if_edited()

    @property
    def _secret_pause(self) -> float:
        return URGENT_SECRET_SECONDS if self._schedule.urgent else SECRET_SECONDS

    async def _pardon_if_edited(self) -> None:
        """End the wait where the Secret has another address: a person may have corrected it."""
        found = await self._read_secret()
        if isinstance(found, Address) and found != self._address:
            self._readers.pool.pardon(self.key)
            self._schedule.edited(_now())

    async def _read_secret(self) -> Address | Problem:
        self._secret_read = _now()
        async with self._readers.secrets:
            return await read_address(self._readers.api, self.key)

    async def _visit(self) -> None:
        self._edited = False
        self._failure = None
        address = await self._bind()
        if address is not None:
            await self._read_all(address)

    async def _bind(self) -> Address | None:
        """Read the Secret and point every gate at its ledger; None where there is no address."""
        found = await self._read_secret()
        problem = found if isinstance(found, Problem) else None
        if problem is None or not problem.transient:
            self._address = None if isinstance(found, Problem) else found
        if self._address is not None:
            problem = None  # the Secret cannot be read now, but was read before: its address stays in use
        for binding in tuple(self.bindings.values()):
            if binding.rebind(self._address, problem):
                self._notify(binding)
        if self._address is None:
            self._schedule.failed(_now())
        return self._address

    async def _read_all(self, address: Address) -> None:
        by_name: defaultdict[wire.LedgerName, list[LedgerBinding]] = defaultdict(list)
        for binding in self.bindings.values():
            source = binding.source
            if source is not None:
                by_name[wire.LedgerName(source.dialect.name, source.schema, source.table)].append(binding)
        if not by_name:
            self._schedule.rest(_now())  # no gate has a dialect that is known; an edit of one is a visit at once
            return
        self._ledgers, self._read = list(by_name.values()), {}
        server = _server(address)
        wanted, urgent = self._schedule.follows(_now()), self._schedule.urgent
        room = urgent or self._readers.servers.has_room(server)
        follow = wanted and room and self._readers.pool.may_follow(self.key)
        self._turns = turns = [Turn(self.key[0], follow, urgent, self._wake) for _ in range(2)]
        request = wire.Visit(
            0,
            self.key[0],
            address,
            tuple(by_name),
            self._readers.application_name,
            follow,
            urgent,
            self._readers.allowed_hosts,
        )
        # The namespace's turn comes first: waiting for it must not occupy a place at a server that others use.
        async with (
            self._readers.namespaces.take(self.key[0], turns[0]),
            self._readers.servers.take(server, turns[1]),
            self._readers.pool.visit(self.key, request, self._answered) as job,
        ):
            polled = urgent if follow else None
            await self._attend(job, turns, address, polled)
            self._conclude(job, server)
        if wanted and not follow and self._failure is None:
            alone = not self._readers.pool.may_follow(self.key)
            if alone or not (room or self._schedule.urgent):
                self._schedule.due = max(self._schedule.due, _now() + SUBSTITUTE_SECONDS)

    async def _attend(self, job: Job, turns: list[Turn], address: Address, polled: bool | None) -> None:
        """Let a visit go on until it ends, or has to end.

        Args:
            polled: whether a visit that lasts was begun as urgent; None for a short look.
        """
        job.ended.add_done_callback(lambda _: self._wake.set())
        follow = polled is not None
        while not job.ended.done() and not self._edited and not any(turn.over for turn in turns):
            if follow and not self._schedule.follows(_now()):
                return
            if follow and self._schedule.urgent is not polled:
                polled = self._schedule.urgent
                job.poll(urgent=polled)
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._secret_read + self._secret_pause - _now())):
                    await self._wake.wait()
            if _now() >= self._secret_read + self._secret_pause:
                found = await self._read_secret()
                if found != address and not (isinstance(found, Problem) and found.transient):
                    return

    def _conclude(self, job: Job, server: str) -> None:
        """Record why a visit has ended, and set the time of the next one."""
        end = job.ended.result() if job.ended.done() else None
        failure, now = self._failure, _now()
        if end is not None:
            penalty = self._readers.pool.penalty(self.key)
            if penalty:
                text = f"reading it has ended the process that reads: {end.reason}"
                self._fail(wire.FaultFound(job.number, None, Fault.UNREACHABLE, "", text, hostile=True))
                self._schedule.failed(now, hostile=True, penalty=penalty)
            else:
                self._schedule.due = now  # the worker was ended by another visit
        elif failure is None:
            self._schedule.ended(now)
        else:
            if failure.crowded:
                self._readers.servers.refused(server)
            self._schedule.failed(now, hostile=failure.hostile)

    def _answered(self, answer: wire.Answer) -> None:
        match answer:
            case wire.Reading() if answer.ledger < len(self._ledgers):
                self._schedule.answered()
                self._readers.on_read(answer.seconds)
                self._note_reading(answer)
            case wire.Migrating() if answer.ledger < len(self._ledgers):
                self._note_run(answer)
            case wire.FaultFound(ledger=None):
                self._failure = answer
                self._fail(answer)
            case wire.FaultFound(ledger=int(place)) if place < len(self._ledgers):
                self._fail(answer, self._ledgers[place])

    def _note_reading(self, answer: wire.Reading) -> None:
        now = datetime.now(UTC)
        ledger = wire.to_ledger(answer)
        known = self._read.get(answer.ledger) if ledger is None else ledger
        if known is None:
            return
        self._read[answer.ledger] = known
        for binding in self._ledgers[answer.ledger]:
            if ledger is None:
                binding.confirm(now)
                continue
            was_read = binding.fault is None
            if binding.read(ledger, now, standby=answer.standby, missing_table=answer.missing_table):
                if was_read:
                    self._schedule.changed(_now())
                self._notify(binding)

    def _note_run(self, answer: wire.Migrating) -> None:
        active = wire.to_active(answer.run)
        for binding in self._ledgers[answer.ledger]:
            if binding.migrating(active):
                self._notify(binding)

    def _fail(self, failure: wire.FaultFound, bindings: list[LedgerBinding] | None = None) -> None:
        if bindings is None:
            bindings = [binding for group in self._ledgers for binding in group]
        affected = [binding for binding in bindings if binding.fault is not failure.fault]
        if affected:
            gates = ",".join(sorted("/".join(binding.gate.key) for binding in affected))
            log_event("ledger.unreadable", level=logging.WARNING, gates=gates, fault=failure.fault, error=failure.text)
        for binding in bindings:
            if binding.failed(failure.fault, failure.detail):
                self._notify(binding)

    def _notify(self, binding: LedgerBinding) -> None:
        with isolated("gate.failed", gate="/".join(binding.gate.key)):
            self._readers.on_change(binding.gate.key)


def _server(address: Address) -> str:
    """Return the name under which the sessions on an address's server are counted.

    Of several servers, which are usually a primary and its standbys, one stands for all.
    """
    return min(f"{server.host}:{server.port}" for server in address.servers)


def _now() -> float:
    return asyncio.get_running_loop().time()
