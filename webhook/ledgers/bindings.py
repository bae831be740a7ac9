"""One gate's binding to its ledger: where the ledger is, and what is known of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from migrations.core.ledger import History, Ledger
from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.reader.reader import LedgerSource
from webhook.core.gate import Gate, RecordedRevision
from webhook.core.history import recall_ledger
from webhook.core.status import Problem
from webhook.ledgers.watchers import LedgerWatchers

if TYPE_CHECKING:
    from migrations.reader.watcher import LedgerWatcher


class LedgerBinding:
    """One gate's binding to its ledger, which an edit of the gate or of its Secret can change at any moment.

    What is known of the ledger outlives the source, and by way of the gate's status even a restart; but only where the
    new source leads to the same ledger: a new password changes nothing, another database starts from nothing.

    Attributes:
        gate: the gate's spec; its status may be older than the cache's.
        problem: why the source is not known.
        source: where the ledger is; None where that is not known.
        watcher: what reads it; None without a source.
        fingerprint: of the ledger that the snapshot is of.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.problem: Problem | None = None
        self.source: LedgerSource | None = None
        self.watcher: LedgerWatcher | None = None
        self.fingerprint = gate.ledger_fingerprint
        self._last_known = LedgerSnapshot(recall_ledger(gate) if gate.history else None, fault=Fault.UNREAD)
        self._heads = _HeadHistory(tuple(gate.history))

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is known of the ledger now.

        Args:
            gate: the gate, with its newest status.
        """
        snapshot = self.watcher.snapshot if self.watcher is not None else self._last_known
        if snapshot.ledger is None or snapshot.ledger.history is not History.HEADS:
            return snapshot
        recorded = gate.history if gate.ledger_fingerprint == self.fingerprint else _NOTHING
        return replace(snapshot, ledger=self._heads.extend(snapshot.ledger, recorded))

    @property
    def first_read_done(self) -> bool:
        """Whether the ledger was read, or the reason why it cannot be read is known."""
        if self.watcher is None:
            return bool(self.problem or self.gate.problems)
        return self.watcher.snapshot.fault is not Fault.UNREAD

    def rebind(self, source: LedgerSource | None, problem: Problem | None, watchers: LedgerWatchers) -> None:
        """Follow another source; none while a problem keeps it unknown."""
        self.problem = problem
        if source == self.source:
            return
        before = self.watcher.snapshot if self.watcher is not None else self._last_known
        # The reading stays, but is not current: until the new source answers, `onUnreachable` decides.
        self._last_known = LedgerSnapshot(before.ledger, before.observed_at, Fault.UNREAD)
        old, self.source, self.watcher = self.source, source, None
        if source is not None:
            fingerprint = ledger_fingerprint(source)
            if self.fingerprint != fingerprint:
                self._last_known = LedgerSnapshot(fault=Fault.UNREAD)
                self._heads = _HeadHistory()
            self.fingerprint = fingerprint
            self.watcher = watchers.join(source, self.gate.key)
            if self._last_known.ledger is not None:
                self.watcher.seed(self._last_known.ledger, self._last_known.observed_at)
        if old is not None:
            watchers.leave(old, self.gate.key)


_NOTHING: Mapping[str, RecordedRevision] = {}


class _HeadHistory:
    """The heads that a ledger was seen at, where its tool (alembic, for one) records no more than the newest.

    Args:
        seen: those that the gate's status remembers, oldest first.
    """

    def __init__(self, seen: tuple[str, ...] = ()) -> None:
        self._seen = seen
        self._cached_for: tuple[Ledger, Mapping[str, RecordedRevision]] | None = None
        self._ledger = Ledger()

    def extend(self, ledger: Ledger, recorded: Mapping[str, RecordedRevision]) -> Ledger:
        """Return the ledger with the heads that came before its own.

        Args:
            recorded: the gate's ``status.history``. The controller may have seen a head that this process, polling,
                has missed; so what it recorded counts first, as soon as it has recorded the head that is seen here.
        """
        if self._cached_for is None or self._cached_for[0] is not ledger or self._cached_for[1] is not recorded:
            self._cached_for = ledger, recorded
            up_to_date = bool(recorded) and ledger.head == tuple(recorded)[-1]
            self._ledger = ledger.with_former_heads(recorded if up_to_date else self._seen)
            self._seen = self._ledger.applied
        return self._ledger


def ledger_fingerprint(source: LedgerSource) -> str:
    """Return a hash that names a ledger without its host: a gate's status has more readers than its Secret."""
    location = source.address.label, source.dialect.name, source.schema, source.table
    return hashlib.sha256(repr(location).encode()).hexdigest()[:16]
