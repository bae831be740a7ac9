"""The ledgers that the gates of a cluster look at: one watcher for each distinct one, however many gates name it."""

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.dialects.catalogue import DIALECTS
from migrations.reader.reader import LedgerSource
from migrations.reader.watcher import LedgerWatcher
from webhook.core.gate import Gate, RecordedRevision
from webhook.core.status import Problem
from webhook.kube.reflector import Key
from webhook.telemetry import log_event

if TYPE_CHECKING:
    from migrations.dialects.dialect import Dialect


class Ledgers:
    """Watchers by source, each for as long as a gate needs it.

    Args:
        group: where the watchers run.
        on_change: called with the key of each gate whose ledger has changed.
        on_read: called with the seconds that each reading took.
        application_name: what the database's list of sessions shows.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        on_change: Callable[[Key], None],
        on_read: Callable[[float], None],
        application_name: str,
    ) -> None:
        self._group = group
        self._on_read = on_read
        self._on_change = on_change
        self._application_name = application_name
        self._watchers: dict[LedgerSource, tuple[LedgerWatcher, asyncio.Task[None]]] = {}
        self._users: defaultdict[LedgerSource, set[Key]] = defaultdict(set)

    def join(self, source: LedgerSource, gate: Key) -> LedgerWatcher:
        """Return the source's watcher, started if this gate is its first."""
        self._users[source].add(gate)
        if source not in self._watchers:
            watcher = LedgerWatcher(
                source,
                on_change=lambda _: self._tell(source),
                on_read=self._on_read,
                on_fault=partial(self._log, source),
                application_name=self._application_name,
            )
            self._watchers[source] = watcher, self._group.create_task(watcher.run())
        return self._watchers[source][0]

    def leave(self, source: LedgerSource, gate: Key) -> None:
        """Let a gate go; the last one's watcher ends."""
        self._users[source].discard(gate)
        if not self._users[source]:
            del self._users[source]
            self._watchers.pop(source)[1].cancel()

    def _log(self, source: LedgerSource, fault: Fault, words: str) -> None:
        gates = ",".join(sorted("/".join(gate) for gate in self._users[source]))
        log_event("ledger.unreadable", level=logging.WARNING, gates=gates, fault=fault, error=words)

    def _tell(self, source: LedgerSource) -> None:
        for gate in tuple(self._users.get(source, ())):
            self._on_change(gate)


class LedgerBinding:
    """One gate's line to its ledger, which its spec and its Secret can lay anew at any moment.

    What was last known of the ledger outlives the line, and by the gate's status every process of ours; but only where
    the new one leads to the same place: a renewed password changes nothing, another database starts from nothing.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.problem: Problem | None = None
        self.source: LedgerSource | None = None
        self.watcher: LedgerWatcher | None = None
        self.place = gate.place
        self._known = LedgerSnapshot(_recalled(gate), fault=Fault.UNREAD)
        self._heads = _HeadHistory(tuple(gate.history))

    @property
    def snapshot(self) -> LedgerSnapshot:
        """What is known of the ledger now."""
        snapshot = self.watcher.snapshot if self.watcher is not None else self._known
        if snapshot.ledger is None or snapshot.ledger.history is not History.HEADS:
            return snapshot
        written = self.gate.history if self.gate.place == self.place else _NOTHING
        return replace(snapshot, ledger=self._heads.behind(snapshot.ledger, written))

    @property
    def settled(self) -> bool:
        """Whether the ledger was read, or why it cannot be is known."""
        if self.watcher is None:
            return bool(self.problem or self.gate.problems)
        return self.watcher.snapshot.fault is not Fault.UNREAD

    def rebind(self, source: LedgerSource | None, problem: Problem | None, ledgers: Ledgers) -> None:
        """Lead the line to a source, or nowhere while there is a problem."""
        self.problem = problem
        if source == self.source:
            return
        before = self.watcher.snapshot if self.watcher is not None else self._known
        self._known = LedgerSnapshot(before.ledger, before.observed_at, Fault.UNREAD)
        old, self.source, self.watcher = self.source, source, None
        if source is not None:
            place = fingerprint(source)
            if self.place != place:
                self._known = LedgerSnapshot(fault=Fault.UNREAD)
                self._heads = _HeadHistory()
            self.place = place
            self.watcher = ledgers.join(source, self.gate.key)
            if self._known.ledger is not None:
                self.watcher.seed(self._known.ledger, self._known.observed_at)
        if old is not None:
            ledgers.leave(old, self.gate.key)


_NOTHING: Mapping[str, RecordedRevision] = {}


class _HeadHistory:
    """The heads that a ledger was seen at, where its tool records no more than the newest.

    Args:
        seen: those of an earlier life, oldest first.
    """

    def __init__(self, seen: tuple[str, ...] = ()) -> None:
        self._seen = seen
        self._from: tuple[Ledger, Mapping[str, RecordedRevision]] | None = None
        self._ledger = Ledger()

    def behind(self, ledger: Ledger, written: Mapping[str, RecordedRevision]) -> Ledger:
        """Add to a ledger what came before it.

        Args:
            written: the gate's ``status.history``. The controller may have seen a head that we, polling, have not; so
                what it wrote goes first, as soon as it has seen the head that we see.
        """
        if self._from is None or self._from[0] is not ledger or self._from[1] is not written:
            self._from = ledger, written
            up_to_date = bool(written) and ledger.head == tuple(written)[-1]
            self._ledger = ledger.remembering(written if up_to_date else self._seen)
            self._seen = self._ledger.applied
        return self._ledger


def fingerprint(source: LedgerSource) -> str:
    """Name a ledger's place without telling it: whoever may read a gate's status need not know the host."""
    place = source.address.label, source.dialect.name, source.schema, source.table
    return hashlib.sha256(repr(place).encode()).hexdigest()[:16]


def _recalled(gate: Gate) -> Ledger | None:
    """Make the ledger that a gate's status remembers."""
    if not gate.history or gate.dialect not in DIALECTS:
        return None
    dialect: Dialect = DIALECTS[gate.dialect]
    records = [
        Record(revision=revision, state=State.APPLIED, compatible_from=sighting.compatible_from)
        for revision, sighting in gate.history.items()
    ]
    # Of heads, only the last is where the ledger is; the others are those that it has left behind.
    return dialect.ledger_of(records[-1:] if dialect.history is History.HEADS else records)
