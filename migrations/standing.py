"""Compares a directory with a ledger, revision by revision, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.ledger import State
from migrations.plan import changed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.files import Migration
    from migrations.ledger import Ledger, Record


class Standing(StrEnum):
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
class Row:
    """One revision.

    Attributes:
        revision: Canonical name.
        standing: How it stands.
        record: What the ledger says; None when nothing.
        migration: Its file; None where there is none.
    """

    revision: str
    standing: Standing
    record: Record | None = None
    migration: Migration | None = None

    @property
    def compatible_from(self) -> str | None:
        """For a contract migration, the oldest revision whose images can still run."""
        if self.record is not None:
            return self.record.compatible_from
        return self.migration.compatible_from if self.migration else None


def compare(migrations: Sequence[Migration], ledger: Ledger) -> tuple[Row, ...]:
    """Give every revision of the directory and of the ledger, oldest first."""
    naming = ledger.naming
    known = {naming.key(migration.revision): migration for migration in migrations}
    edited = {naming.key(migration.revision) for migration, _ in changed(migrations, ledger)}
    records = {naming.key(record.revision): record for record in ledger.records}

    def standing(key: str) -> Standing:
        record = records.get(key)
        if record is None:
            return Standing.PENDING
        if record.state is not State.APPLIED:
            return Standing(record.state)
        if key not in known:
            return Standing.MISSING
        return Standing.CHANGED if key in edited else Standing.APPLIED

    def row(key: str) -> Row:
        record, migration = records.get(key), known.get(key)
        named = migration or records[key]
        return Row(named.revision, standing(key), record, migration)

    return tuple(row(key) for key in sorted(known.keys() | records.keys(), key=naming.sorting))
