"""The ledger as a LedgerGate's status records it: all that admission knows of a ledger. Pure.

A status keeps the newest revisions only. What they do not show is left to the controller, which has the whole ledger.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.revision import Revision
from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.dialects.catalogue import DIALECTS
from migrations.dialects.dialect import Dialect
from migrations.dialects.native import NATIVE
from webhook.core.gate import Gate, RecordedMigration, RecordedRevision


@dataclass(frozen=True)  # no slots: cached_property stores its values in the instance's dictionary
class RecalledLedger(Ledger):
    """The newest part of a ledger, with what was recorded of the rest.

    Attributes:
        extents: COUNT and DIGEST up to a revision, by its key, where they were recorded.
        oldest: The revision from which on all applied ones are known; None where the whole ledger is known.
    """

    extents: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    oldest: str | None = None

    def can_tell(self, revision: Revision) -> bool:
        """Return whether the recorded part shows if a revision is applied, and complete."""
        key = self.versioning.key(revision.name)
        if key in self._index:
            short = revision.count is None or self.history in {History.NUMBER, History.HEADS}
            return short or self._baseline is not None or key in self.extents
        if self.oldest is None:
            return True
        if self.contains(revision.name):  # by a baseline: whether a dirty migration comes before it is not known
            return self.dirty is None
        # Where names are the order, an applied revision newer than `oldest` would be among the known ones. No other
        # order allows this conclusion.
        sort_key = self.versioning.sort_key
        return self.history is History.NAMES and sort_key(revision.name) > sort_key(self.oldest)

    def _count_up_to(self, index: int) -> int:
        return self._extent(index)[0]

    def _digest_up_to(self, index: int) -> str:
        return self._extent(index)[1]

    def _extent(self, index: int) -> tuple[int, str]:
        return self.extents.get(self.versioning.key(self.applied[index]), (0, ""))


def recall_ledger(gate: Gate) -> RecalledLedger | None:
    """Return the ledger that a gate's status describes; None where that cannot be known."""
    known = gate.reading.applied is not None or gate.history
    # A status written for another ledger is void. Statuses of older versions have no source.
    if gate.dialect not in DIALECTS or not known or gate.reading.source not in {"", gate.source}:
        return None
    try:
        return _rebuild(DIALECTS[gate.dialect], gate)
    except ValueError:
        return None  # a version of thousands of digits, which only a status that was edited by hand can have


def recall_snapshot(gate: Gate, *, current: bool = True) -> LedgerSnapshot:
    """Return what a gate's status says of its ledger.

    Args:
        current: whether a controller works that would write a newer status. Without one the ledger counts as
            unreachable: what the status says was true once.
    """
    ledger, reading = recall_ledger(gate), gate.reading
    return LedgerSnapshot(ledger, _time(reading.observed_at), _fault(gate, ledger) if current else Fault.UNREACHABLE)


def _fault(gate: Gate, ledger: Ledger | None) -> Fault | None:
    reading = gate.reading
    if not reading.state or reading.source not in {"", gate.source}:
        return Fault.PENDING
    if reading.fault:
        return Fault(reading.fault) if reading.fault in set(Fault) else Fault.UNREACHABLE
    if ledger is None or reading.state in {"Unreachable", "Misconfigured"}:
        return Fault.UNREACHABLE
    # Older versions did not record which migration is dirty.
    return Fault.PENDING if reading.state == "Dirty" and not reading.unsettled else None


def _rebuild(dialect: Dialect, gate: Gate) -> RecalledLedger:
    names, recorded = list(gate.history), gate.history
    missing = (gate.reading.applied or 0) - len(names)
    if dialect.history is History.HEADS:
        heads = [name for name in names if recorded[name].is_head] or names[-1:]
        ledger = dialect.build_ledger(_applied(heads, recorded, dialect)).with_former_heads(names)
    else:
        records = _with_unsettled(_applied(names, recorded, dialect), gate.reading.unsettled, max(0, missing))
        ledger = dialect.build_ledger(records)
    key = dialect.versioning.key
    return RecalledLedger(
        ledger.records,
        ledger.history,
        ledger.versioning,
        ledger.former_heads,
        extents={
            key(name): (entry.count, entry.digest)
            for name, entry in recorded.items()
            if entry.count is not None and entry.digest is not None
        },
        oldest=_oldest_unbroken(names, recorded) if missing > 0 else None,
    )


def _applied(names: Iterable[str], recorded: Mapping[str, RecordedRevision], dialect: Dialect) -> list[Record]:
    """Return the records of applied revisions; for other tools `Gate.former_contracts` has the boundaries."""
    native = dialect is NATIVE
    return [
        Record(
            name,
            State.APPLIED,
            compatible_from=recorded[name].compatible_from if native else None,
            baseline=recorded[name].baseline,
        )
        for name in names
    ]


def _with_unsettled(applied: list[Record], unsettled: Iterable[RecordedMigration], missing: int) -> list[Record]:
    """Insert the unsettled migrations at their positions in the ledger; names are sorted afterwards anyway.

    Args:
        missing: how many of the oldest applied revisions are not in the list.
    """
    records = list(applied)
    for number, entry in enumerate(unsettled):
        state = State(entry.state) if entry.state in set(State) else State.FAILED
        # `after` counts applied revisions only, and `number` unsettled ones were inserted before this one.
        records.insert(max(0, entry.after - missing) + number, Record(entry.revision, state))
    return records


def _oldest_unbroken(names: list[str], recorded: Mapping[str, RecordedRevision]) -> str | None:
    """Return the oldest of the newest revisions that follow one another without a gap, as their counts show.

    Before the gap a status has only a baseline and contract migrations, which are kept however old they are.
    """
    oldest = names[-1] if names else None
    for newer, older in zip(reversed(names), list(reversed(names))[1:], strict=False):
        count, before = recorded[newer].count, recorded[older].count
        if count is None or before is None or before != count - 1:
            break
        oldest = older
    return oldest


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
