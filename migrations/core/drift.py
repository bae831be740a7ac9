"""A directory compared with a ledger: the status of each revision, and what is wrong with any of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.core.ledger import History, State
from migrations.core.migration import Undo
from migrations.core.plan import describe_dirty, describe_edit, edited_files, other_line_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from migrations.core.ledger import Ledger, Record
    from migrations.core.migration import Migration


class RevisionStatus(StrEnum):
    """The status of one revision, from its file and its record."""

    APPLIED = "applied"
    PENDING = "pending"
    """It has a file and no record."""
    MISSING = "missing"
    """Applied, and without a file: the file was deleted, or another image has it."""
    CHANGED = "changed"
    """Applied, and its file was edited since."""
    FAILED = "failed"
    RUNNING = "running"
    """It began and has not ended: it is running now, or its run was killed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One revision of the directory, of the ledger or of both.

    Attributes:
        revision: Canonical name.
        status: Its status.
        record: Its record; None where the ledger has none.
        migration: Its file; None where there is none.
    """

    revision: str
    status: RevisionStatus
    record: Record | None = None
    migration: Migration | None = None

    @property
    def compatible_from(self) -> str | None:
        """For a contract migration, the oldest revision whose images can still run."""
        if self.record is not None:
            return self.record.compatible_from
        return self.migration.compatible_from if self.migration else None


class DriftKind(StrEnum):
    """How directory and ledger differ."""

    CHANGED = "Changed"
    """A file was edited after it was applied."""
    MISSING = "Missing"
    """Applied, and without a file, although there is a file for a newer revision."""
    GAP = "Gap"
    """Not applied, although a newer revision is; `up` refuses it."""
    DIRTY = "Dirty"
    """Failed, or began and has not ended (it may be running)."""
    OUT_OF_ORDER = "OutOfOrder"
    """Applied after a newer one. This was done on purpose and cannot be changed, so it is only reported."""
    LINE_ENDS = "LineEnds"
    """The file differs from what was applied only in its line ends, which is accepted."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference.

    Attributes:
        kind: What differs.
        revision: Canonical name.
        message: What is expected, what is there and what to do.
        path: The file; None where there is none.
        recorded_checksum: SHA-256 in the ledger, for CHANGED.
        file_checksum: SHA-256 of the file, for CHANGED.
    """

    kind: DriftKind
    revision: str
    message: str
    path: str | None = None
    recorded_checksum: str | None = None
    file_checksum: str | None = None

    @property
    def is_problem(self) -> bool:
        """Whether something has to be done about it."""
        return self.kind not in {DriftKind.OUT_OF_ORDER, DriftKind.LINE_ENDS}


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify`.

    Attributes:
        drifts: Every difference, sorted by revision.
        pending: Revisions to apply that are newer than the head; they are no problem.
        ahead: Applied revisions that are newer than every file; they are no problem either.
        without_down: Files that neither have a down section nor declare that the migration cannot be undone. The
            section may be there, but not be recognised.
    """

    drifts: tuple[Drift, ...]
    pending: tuple[str, ...]
    ahead: tuple[str, ...]
    without_down: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not any(drift.is_problem for drift in self.drifts)


def compare(
    migrations: Sequence[Migration], ledger: Ledger, *, is_elsewhere: Callable[[str], bool] = lambda _revision: False
) -> tuple[Comparison, ...]:
    """Return every revision of the directory and of the ledger, oldest first.

    Args:
        migrations: The files.
        ledger: The ledger.
        is_elsewhere: Returns whether a recorded revision may have its file in another directory.
    """
    key = ledger.versioning.key
    files = {key(migration.revision): migration for migration in migrations}
    records = {key(record.revision): record for record in ledger.records}
    edited = {key(migration.revision) for migration, _ in edited_files(migrations, ledger)}

    def status(identity: str) -> RevisionStatus:
        record = records.get(identity)
        if record is None:  # a tool does not record what is older than its baseline
            return RevisionStatus.APPLIED if ledger.contains(files[identity].revision) else RevisionStatus.PENDING
        if record.state is not State.APPLIED:
            return RevisionStatus(record.state)
        if identity not in files:
            without_file = record.baseline or is_elsewhere(record.revision)
            return RevisionStatus.APPLIED if without_file else RevisionStatus.MISSING
        return RevisionStatus.CHANGED if identity in edited else RevisionStatus.APPLIED

    def row(identity: str) -> Comparison:
        record, migration = records.get(identity), files.get(identity)
        named = migration or records[identity]
        return Comparison(named.revision, status(identity), record, migration)

    return tuple(row(identity) for identity in sorted(files.keys() | records.keys(), key=ledger.versioning.sort_key))


def verify(migrations: Sequence[Migration], ledger: Ledger) -> Verification:
    """Find every difference between a directory and the native ledger.

    Args:
        migrations: The files, in order.
        ledger: The ledger as it is now.
    """
    newest, head = (migrations[-1].revision if migrations else ""), ledger.head or ""
    rows = compare(migrations, ledger)
    drifts = [*(drift for row in rows for drift in _drifts(row, newest, head)), *_applied_out_of_order(ledger)]
    drifts += [_line_ends_drift(*pair) for pair in other_line_ends(migrations, ledger)]
    return Verification(
        drifts=tuple(sorted(drifts, key=lambda drift: (drift.revision, drift.kind))),
        pending=tuple(row.revision for row in rows if row.status is RevisionStatus.PENDING and row.revision > head),
        ahead=tuple(row.revision for row in rows if row.status is RevisionStatus.MISSING and row.revision > newest),
        without_down=tuple(str(m.path) for m in migrations if m.undo is Undo.MISSING),
    )


def verify_names(
    migrations: Sequence[Migration], ledger: Ledger, is_elsewhere: Callable[[str], bool] = lambda _revision: False
) -> Verification:
    """Find every difference between a directory and a tool's ledger, where names may not sort in the required order.

    A file that is not applied is pending even where a newer one is applied: many of these tools apply it late.

    Args:
        migrations: The files.
        ledger: The ledger as it is now.
        is_elsewhere: As in `compare`.
    """
    rows = compare(migrations, ledger, is_elsewhere=is_elsewhere)
    # "Newer" means later among the records where they are in execution order, and a higher version in other ledgers.
    places = {record.revision: place for place, record in enumerate(ledger.records)}
    sort_key, by_record = ledger.versioning.sort_key, ledger.history is History.EXECUTION
    newest_place = max((places[row.record.revision] for row in rows if row.migration and row.record), default=-1)
    newest_key = max((sort_key(migration.revision) for migration in migrations), default=((), ""))

    def is_ahead(name: str) -> bool:
        return places[name] > newest_place if by_record else sort_key(name) > newest_key

    drifts: list[Drift] = []
    pending, ahead = [], []
    for row in rows:
        if row.status is RevisionStatus.PENDING:
            pending.append(row.revision)
        elif row.status is RevisionStatus.MISSING and is_ahead(row.revision):
            ahead.append(row.revision)
        elif row.status is RevisionStatus.MISSING:
            drifts.append(Drift(DriftKind.MISSING, row.revision, f"{row.revision} is applied, but has no file"))
        elif row.record and row.status in {RevisionStatus.FAILED, RevisionStatus.RUNNING}:
            drifts.append(Drift(DriftKind.DIRTY, row.revision, describe_dirty(row.record)))
    return Verification(tuple(drifts), tuple(pending), tuple(ahead))


def _drifts(row: Comparison, newest: str, head: str) -> Iterator[Drift]:
    """Yield how this revision differs, if it does.

    Args:
        row: The revision.
        newest: The newest revision that has a file; empty where there are no files.
        head: The newest applied revision; empty where there is none.
    """
    revision, record, migration = row.revision, row.record, row.migration
    path = str(migration.path) if migration else None
    match row.status:
        case RevisionStatus.CHANGED if migration and record:
            text = describe_edit(migration, record)
            yield Drift(DriftKind.CHANGED, revision, text, path, record.checksum, migration.checksum)
        case RevisionStatus.MISSING if revision < newest:
            text = f"{revision} is applied, but has no file; restore it, so that it can be undone and checked"
            yield Drift(DriftKind.MISSING, revision, text)
        case RevisionStatus.PENDING if revision < head:
            text = (
                f"{path} is not applied, although {head} is, which is newer; give it a newer timestamp, "
                "or apply it late with `ledgergate migrate up --allow-out-of-order`"
            )
            yield Drift(DriftKind.GAP, revision, text, path)
        case RevisionStatus.FAILED | RevisionStatus.RUNNING if record:
            yield Drift(DriftKind.DIRTY, revision, describe_dirty(record), path)


def _line_ends_drift(migration: Migration, record: Record) -> Drift:
    return Drift(
        DriftKind.LINE_ENDS,
        migration.revision,
        f"{migration.path} differs from what was applied by its line ends (LF or CRLF) alone, which is accepted; "
        "`*.sql text eol=lf` in .gitattributes keeps them the same everywhere",
        str(migration.path),
        record.checksum,
        migration.checksum,
    )


def _applied_out_of_order(ledger: Ledger) -> Iterator[Drift]:
    """Yield each revision that ran in a later batch than a newer revision did.

    What `baseline` recorded (batch 0) does not count: when it ran is not known.
    """
    earliest_newer = None
    for record in reversed(ledger.records):
        if not record.batch or record.state is not State.APPLIED:
            continue
        if earliest_newer is not None and record.batch > earliest_newer:
            yield Drift(DriftKind.OUT_OF_ORDER, record.revision, f"{record.revision} was applied after a newer one")
        earliest_newer = record.batch if earliest_newer is None else min(earliest_newer, record.batch)
