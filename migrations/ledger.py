"""What a migration ledger says, as a value that answers questions in constant time."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Self

from migrations.revision import digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from migrations.revision import Revision

UNDOING = "while it was undone"
"""What a native row's `error` begins with while it tells of a `down`, not of an `up`."""


class State(StrEnum):
    """How far a recorded migration has come; the values are those of the native ledger's column `state`."""

    RUNNING = "running"
    APPLIED = "applied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a ledger.

    Attributes:
        revision: Canonical name.
        state: How far it has come.
        checksum: SHA-256 of the migration file in hex, where the dialect keeps one.
        batch: Number of the run that applied it, where the dialect keeps one.
        compatible_from: For a contract migration, the oldest revision whose images can still run.
        error: Why it failed, in the database's words.
        started_at: When it began, UTC.
        finished_at: When it ended, UTC.
        duration_ms: How long it took, in milliseconds.
        applied_by: Pod or host that ran it.
    """

    revision: str
    state: State
    checksum: str | None = None
    batch: int | None = None
    compatible_from: str | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: int | None = None
    applied_by: str | None = None

    @property
    def undoing(self) -> bool:
        """Whether what failed or never ended was a `down`."""
        return self.state is not State.APPLIED and (self.error or "").startswith(UNDOING)


@dataclass(frozen=True)  # no slots: cached_property keeps its answers in the instance's dictionary
class Ledger:
    """Every record of one ledger, oldest revision first; equal ledgers hold equal records.

    The order is that of the dialect: what comes before a revision is what must have been applied before it. In the
    native ledger that is the order of names (a file merged late takes its place among the older ones).
    """

    records: tuple[Record, ...] = ()
    _index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A tool without a unique constraint (Knex) may record a name twice; it is still one revision.
        names = dict.fromkeys(record.revision for record in self.records if record.state is State.APPLIED)
        object.__setattr__(self, "_index", {name: position for position, name in enumerate(names)})

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """Build the ledger from records in the dialect's order, oldest revision first."""
        return cls(tuple(records))

    @cached_property
    def applied(self) -> tuple[str, ...]:
        """Names of the applied revisions, each once, in ledger order."""
        return tuple(self._index)

    @property
    def head(self) -> str | None:
        """The newest applied revision; None for an empty ledger."""
        return self.applied[-1] if self._index else None

    @cached_property
    def dirty(self) -> Record | None:
        """The first record that is failed or running; None when all is settled."""
        return next((record for record in self.records if record.state is not State.APPLIED), None)

    @cached_property
    def floor(self) -> Record | None:
        """The applied contract migration that asks most: the one with the newest `compatible_from`."""
        contracts = [(r.compatible_from, r) for r in self.records if r.state is State.APPLIED and r.compatible_from]
        return max(contracts, key=lambda pair: pair[0])[1] if contracts else None

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        return tuple(digests(self.applied))

    def contains(self, name: str) -> bool:
        """Tell whether the revision of this canonical name is applied."""
        return name in self._index

    def is_ahead_of(self, name: str) -> bool:
        """Tell whether the revision is applied and newer ones are too."""
        return self.newer(name) > 0

    def newer(self, name: str) -> int:
        """Count the applied revisions that come after this one; 0 when it is not applied itself."""
        position = self._index.get(name)
        return 0 if position is None else len(self._index) - position - 1

    def gap(self, revision: Revision) -> bool:
        """Tell whether something that the image knows up to `revision` is missing here.

        Fewer than COUNT revisions up to NAME, or as many with another digest, is a gap. More than COUNT is none: a late
        merge that an older image does not know. The short form cannot show a gap; a NAME that is not applied is one.
        """
        position = self._index.get(revision.name)
        if position is None:
            return True
        if revision.count is None or position + 1 > revision.count:
            return False
        return position + 1 < revision.count or self._digests[position] != revision.digest

    def barrier(self, name: str) -> Record | None:
        """Give the applied contract migration that shuts out images which expect `name`; None when they can run.

        It is newer than `name`, and so is its `compatible_from`. Of several, the one that asks most is given. Only the
        native ledger records contract migrations, and its order is that of the names.
        """
        floor = self.floor
        if floor is None or floor.compatible_from is None:
            return None
        return floor if floor.revision > name and floor.compatible_from > name else None
