"""One gate's binding to its ledger: where the ledger is, and what is known of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from migrations.core.ledger import History, Ledger
from migrations.core.snapshot import ActiveMigration, Fault, LedgerSnapshot
from migrations.dialects.catalogue import DIALECTS
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from webhook.core.gate import Gate, RecordedRevision
from webhook.core.history import recall_ledger
from webhook.core.status import Problem


class LedgerBinding:
    """One gate's binding to its ledger, which an edit of the gate or of its Secret can change at any moment.

    What is known of the ledger outlives the source, and by way of the gate's status even a restart; but only where the
    new source leads to the same ledger: a new password changes nothing, another database starts from nothing.

    Attributes:
        gate: the gate's spec; its status may be older than the cache's.
        problem: why the source is not known.
        source: where the ledger is; None where that is not known.
        urgent: pods wait for the ledger.
        fingerprint: of the ledger that the snapshot describes.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.problem: Problem | None = None
        self.source: LedgerSource | None = None
        self.urgent = False
        self.fingerprint = gate.ledger_fingerprint
        self._known = LedgerSnapshot(recall_ledger(gate) if gate.history else None, fault=Fault.UNREAD)
        self._heads = _HeadHistory(tuple(gate.history))
        self._has_left = False

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return what is known of the ledger now.

        Args:
            gate: the gate, with its newest status.
        """
        snapshot = self._known
        if snapshot.ledger is None or snapshot.ledger.history is not History.HEADS:
            return snapshot
        recorded = gate.history if gate.ledger_fingerprint == self.fingerprint else _NOTHING
        return replace(snapshot, ledger=self._heads.extend(snapshot.ledger, recorded))

    @property
    def fault(self) -> Fault | None:
        """Why the ledger cannot be read now; None where it can."""
        return self._known.fault

    @property
    def may_write_status(self) -> bool:
        """Whether the gate's status may be written: more is known than what an earlier leader has written there.

        The ledger was read, or why it cannot be read is known, or the status is of a ledger to which the Secret no
        longer leads: otherwise admission would go by that status until the new server answers or fails.
        """
        return self._has_left or bool(self.problem or self.gate.problems) or self._known.fault is not Fault.UNREAD

    def rebind(self, address: Address | None, problem: Problem | None) -> bool:
        """Bind the gate to the ledger to which it and its Secret lead now; to none while a problem keeps that unknown.

        Args:
            address: what the Secret holds.

        Returns:
            Whether anything has changed.
        """
        source = None
        if address is not None and self.gate.dialect in DIALECTS:  # else parse_gate has put it among its problems
            gate = self.gate
            source = LedgerSource(address, DIALECTS[gate.dialect], gate.schema or address.schema, gate.table)
        changed = problem != self.problem or source != self.source
        self.problem = problem
        if source == self.source:
            return changed
        # The reading stays, but is not current: until the new source answers, `onUnreachable` decides.
        self._known = LedgerSnapshot(self._known.ledger, self._known.observed_at, Fault.UNREAD)
        self.source = source
        if source is not None:
            fingerprint = ledger_fingerprint(source)
            if self.fingerprint != fingerprint:
                self._has_left = bool(self.fingerprint)
                self._known = LedgerSnapshot(fault=Fault.UNREAD)
                self._heads = _HeadHistory()
            self.fingerprint = fingerprint
        return True

    def read(self, ledger: Ledger, at: datetime, *, standby: bool = False, missing_table: str = "") -> bool:
        """Note what was read of the ledger; return whether anything has changed."""
        known = self._known.ledger  # kept where it is equal: what was computed from the object stays valid
        return self._update(
            LedgerSnapshot(
                known if known == ledger else ledger,
                at,
                run=self._known.run,
                missing_table=missing_table,
                standby=standby,
                unverified=self.source is not None and self.source.address.unverified,
            )
        )

    def confirm(self, at: datetime) -> None:
        """Note that the ledger was seen to be unchanged."""
        self._update(replace(self._known, observed_at=at))

    def migrating(self, run: ActiveMigration | None) -> bool:
        """Note which migration runs, if any; return whether that has changed."""
        return self._update(replace(self._known, run=run))

    def failed(self, fault: Fault, detail: str) -> bool:
        """Note that the ledger cannot be read; return whether that, or why, has changed."""
        return self._update(replace(self._known, fault=fault, detail=detail, run=None))

    def _update(self, snapshot: LedgerSnapshot) -> bool:
        before, self._known = self._known, snapshot
        return replace(snapshot, observed_at=before.observed_at) != before


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
