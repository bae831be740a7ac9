"""Finds what is wrong between a directory and a ledger, and says what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.core.ledger import State
from migrations.core.plan import describe_dirty, edited_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.core.ledger import Ledger, Record
    from migrations.core.migration import Migration


class RevisionStatus(StrEnum):
    """How one revision stands."""

    APPLIED = "applied"
    PENDING = "pending"
    """The file is there, the ledger lacks it."""
    MISSING = "missing"
    """Applied, but there is no such file (any more, or in this image)."""
    CHANGED = "changed"
    """Applied, but the file was edited since."""
    FAILED = "failed"
    RUNNING = "running"
    """Began and has not ended: it is running now, or its run was killed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One revision.

    Attributes:
        revision: Canonical name.
        standing: How it stands.
        record: What the ledger says; None when nothing.
        migration: Its file; None where there is none.
    """

    revision: str
    standing: RevisionStatus
    record: Record | None = None
    migration: Migration | None = None

    @property
    def compatible_from(self) -> str | None:
        """For a contract migration, the oldest revision whose images can still run."""
        if self.record is not None:
            return self.record.compatible_from
        return self.migration.compatible_from if self.migration else None


def compare(migrations: Sequence[Migration], ledger: Ledger) -> tuple[Comparison, ...]:
    """Give every revision of the directory and of the ledger, oldest first."""
    versioning = ledger.versioning
    known = {versioning.key(migration.revision): migration for migration in migrations}
    edited = {versioning.key(migration.revision) for migration, _ in edited_files(migrations, ledger)}
    records = {versioning.key(record.revision): record for record in ledger.records}

    def standing(key: str) -> RevisionStatus:
        record = records.get(key)
        if record is None:
            return RevisionStatus.PENDING
        if record.state is not State.APPLIED:
            return RevisionStatus(record.state)
        if key not in known:
            return RevisionStatus.MISSING
        return RevisionStatus.CHANGED if key in edited else RevisionStatus.APPLIED

    def row(key: str) -> Comparison:
        record, migration = records.get(key), known.get(key)
        named = migration or records[key]
        return Comparison(named.revision, standing(key), record, migration)

    return tuple(row(key) for key in sorted(known.keys() | records.keys(), key=versioning.sort_key))


class DriftKind(StrEnum):
    """What is wrong."""

    CHANGED = "Changed"
    """A file was edited after it was applied."""
    MISSING = "Missing"
    """Applied, without a file although newer ones have one."""
    GAP = "Gap"
    """Not applied, although a newer revision is: `up` refuses it."""
    DIRTY = "Dirty"
    """Failed, or began and never ended (it may be running)."""
    OUT_OF_ORDER = "OutOfOrder"
    """Applied after a newer one. It happened on purpose and cannot be mended, so it is told and nothing more."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing worth telling.

    Attributes:
        kind: What it is.
        revision: Of which revision.
        message: What is expected, what is there, what to do.
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
    def wrong(self) -> bool:
        """Whether something has to be done about it."""
        return self.kind is not DriftKind.OUT_OF_ORDER


@dataclass(frozen=True, slots=True)
class Verification:
    """How files and ledger compare.

    Attributes:
        findings: By revision.
        pending: Revisions newer than the head that are to be applied; nothing is wrong with that.
        ahead: Applied revisions newer than every file; nothing is wrong with that either.
    """

    findings: tuple[Drift, ...]
    pending: tuple[str, ...]
    ahead: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.wrong for finding in self.findings)


def verify(migrations: Sequence[Migration], ledger: Ledger) -> Verification:
    """Compare every file with the ledger.

    Args:
        migrations: The files, in order.
        ledger: What is recorded.
    """
    newest, head = (migrations[-1].revision if migrations else ""), ledger.head or ""
    dirty = {record.revision for record in ledger.records if record.state is not State.APPLIED}
    open_ = [m for m in migrations if not ledger.contains(m.revision) and m.revision not in dirty]
    findings = [
        *_changed(migrations, ledger),
        *_missing({m.revision for m in migrations}, newest, ledger),
        *(_gap(migration, head) for migration in open_ if migration.revision < head),
        *_dirty(migrations, ledger),
        *_out_of_order(ledger),
    ]
    return Verification(
        findings=tuple(sorted(findings, key=lambda finding: (finding.revision, finding.kind))),
        pending=tuple(migration.revision for migration in open_ if migration.revision > head),
        ahead=tuple(revision for revision in ledger.applied if revision > newest),
    )


def _changed(migrations: Sequence[Migration], ledger: Ledger) -> Iterator[Drift]:
    for migration, record in edited_files(migrations, ledger):
        yield Drift(
            DriftKind.CHANGED,
            migration.revision,
            f"{migration.path} was changed after it was applied: expected SHA-256 {record.checksum}, got "
            f"{migration.checksum}; restore the file and put the change into a new migration",
            str(migration.path),
            record.checksum,
            migration.checksum,
        )


def _missing(known: set[str], newest: str, ledger: Ledger) -> Iterator[Drift]:
    for revision in ledger.applied:
        if revision < newest and revision not in known:
            text = f"{revision} is applied, but has no file; restore it, so that it can be undone and checked"
            yield Drift(DriftKind.MISSING, revision, text)


def _gap(migration: Migration, head: str) -> Drift:
    text = (
        f"{migration.path} is not applied, although {head} is, which is newer; give it a newer timestamp, "
        "or apply it late with `ledgergate migrate up --allow-out-of-order`"
    )
    return Drift(DriftKind.GAP, migration.revision, text, str(migration.path))


def _dirty(migrations: Sequence[Migration], ledger: Ledger) -> Iterator[Drift]:
    paths = {migration.revision: str(migration.path) for migration in migrations}
    for record in ledger.records:
        if record.state is not State.APPLIED:
            yield Drift(DriftKind.DIRTY, record.revision, describe_dirty(record), paths.get(record.revision))


def _out_of_order(ledger: Ledger) -> Iterator[Drift]:
    """Find what ran in a later batch than something newer; what was never run here (batch 0) has no place in time."""
    earliest_newer = None
    for record in reversed(ledger.records):
        if not record.batch or record.state is not State.APPLIED:
            continue
        if earliest_newer is not None and record.batch > earliest_newer:
            yield Drift(DriftKind.OUT_OF_ORDER, record.revision, f"{record.revision} was applied after a newer one")
        earliest_newer = record.batch if earliest_newer is None else min(earliest_newer, record.batch)
