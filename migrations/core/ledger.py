"""What a migration ledger says, as a value that answers questions in constant time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Self

from migrations.core.revision import digest_of, digests
from migrations.core.versioning import Versioning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from migrations.core.revision import Revision

UNDOING = "while it was undone"
"""What a native row's `error` begins with while it tells of a `down`, not of an `up`."""


class State(StrEnum):
    """How far a recorded migration has come; the values are those of the native ledger's column `state`."""

    RUNNING = "running"
    APPLIED = "applied"
    FAILED = "failed"


class History(StrEnum):
    """What a tool keeps of the migrations that it has applied, and in which order."""

    NAMES = "names"
    """Every one; what must come before another is what sorts before it, as in the directory."""
    EXECUTION = "execution"
    """Every one, in the order in which they ran; the tool's own order is a graph or a list that it does not record."""
    NUMBER = "number"
    """The newest alone, a number: whatever is lower is applied too (golang-migrate)."""
    HEADS = "heads"
    """The newest alone, of each branch one, and their names tell nothing of an order (Alembic)."""


class Position(StrEnum):
    """Where a ledger stands, seen from a revision."""

    HEAD = "head"
    """The revision is applied, and nothing newer is."""
    PASSED = "passed"
    """The revision is applied, and newer ones are too."""
    SHORT = "short"
    """The revision is not applied."""
    BEYOND = "beyond"
    """The ledger is at a head that the image does not know, though it knows all that lead to its own revision."""
    UNTOLD = "untold"
    """The ledger is at another head, and which of the two is newer cannot be told."""


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
        baseline: Whether all that is older counts as applied too, though nothing is recorded of it.
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
    baseline: bool = False

    @property
    def undoing(self) -> bool:
        """Whether what failed or never ended was a `down`."""
        return self.state is not State.APPLIED and (self.error or "").startswith(UNDOING)


@dataclass(frozen=True)  # no slots: cached_property keeps its answers in the instance's dictionary
class Ledger:
    """Every record of one ledger, oldest revision first; equal ledgers hold equal records.

    What comes before a revision is what must have been applied before it; `History` says how far that can be known.

    Attributes:
        records: What the table holds, in its dialect's order, oldest first.
        history: What the tool keeps.
        naming: When a declared revision and a recorded one are the same.
        remembered: Former heads, oldest first, where the tool keeps no history; see `remembering`.
    """

    records: tuple[Record, ...] = ()
    history: History = History.NAMES
    versioning: Versioning = Versioning.NAME
    remembered: tuple[str, ...] = ()
    _index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = self.versioning.key
        # A tool without a unique constraint (Knex) may record a name twice; it is still one revision.
        object.__setattr__(self, "_index", {key(name): place for place, name in enumerate(self.applied)})

    @classmethod
    def of(
        cls, records: Iterable[Record], history: History = History.NAMES, versioning: Versioning = Versioning.NAME
    ) -> Self:
        """Build the ledger from records in the dialect's order, oldest revision first."""
        return cls(tuple(records), history, versioning)

    def remembering(self, names: Iterable[str]) -> Self:
        """Add the heads that the ledger was seen at before, where the tool itself keeps no history.

        A head that comes back, after a downgrade, forgets those seen after it. `applied` of the result is what to
        remember next time.

        Args:
            names: Those heads, oldest first.
        """
        if self.history is not History.HEADS:
            return self
        heads = {record.revision for record in self.records}
        seen = tuple(dict.fromkeys(names))
        if heads.issubset(seen):
            seen = seen[: max((place for place, name in enumerate(seen) if name in heads), default=0)]
        return replace(self, remembered=tuple(name for name in seen if name not in heads))

    @cached_property
    def applied(self) -> tuple[str, ...]:
        """Names of the applied revisions, as far as they are known, each once, in ledger order."""
        key = self.versioning.key
        settled = (record.revision for record in self.records if record.state is State.APPLIED)
        return tuple({key(name): name for name in (*self.remembered, *settled)}.values())

    @property
    def head(self) -> str | None:
        """The newest applied revision; None for an empty ledger. Of several branches, the one that was read last."""
        return self.applied[-1] if self.applied else None

    @cached_property
    def dirty(self) -> Record | None:
        """The first record that is failed or running; None when all is settled."""
        return next((record for record in self.records if record.state is not State.APPLIED), None)

    @cached_property
    def floor(self) -> Record | None:
        """The applied contract migration that asks most: the one with the newest `compatible_from`."""
        contracts = [(r.compatible_from, r) for r in self.records if r.state is State.APPLIED and r.compatible_from]
        return max(contracts, key=lambda pair: self.versioning.sort_key(pair[0]))[1] if contracts else None

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        return tuple(digests(self._index))

    @cached_property
    def _set_digest(self) -> str:
        return digest_of(sorted(self._index))

    def contains(self, name: str) -> bool:
        """Tell whether the revision of this canonical name is applied."""
        if self.history is History.NUMBER:
            return self._reaches(name)
        return self.versioning.key(name) in self._index or self._precedes(name)

    def is_ahead_of(self, name: str) -> bool:
        """Tell whether the revision is applied and newer ones are too."""
        return self.newer(name) > 0

    def newer(self, name: str) -> int:
        """Count the applied revisions, as far as they are known, that come after this one; 0 when it is not applied."""
        place = self._index.get(self.versioning.key(name))
        if place is None:
            return int(self.contains(name))
        if self.history is History.HEADS and place >= len(self.remembered):
            return 0  # another branch's head is not newer
        return len(self._index) - place - 1

    def position(self, name: str, ancestors: Collection[str] | None = None) -> Position:
        """Tell where the ledger stands, seen from an image that expects a revision.

        Args:
            name: The revision's canonical name.
            ancestors: The revisions that lead to it; None where the image does not declare them. Needed only where the
                tool records heads alone.
        """
        if self.contains(name):
            return Position.PASSED if self.is_ahead_of(name) else Position.HEAD
        if self.history is not History.HEADS or not self._index:
            return Position.SHORT
        heads = self.applied[len(self.remembered) :]
        if ancestors is None:
            return Position.UNTOLD
        return Position.BEYOND if set(ancestors).isdisjoint(heads) else Position.SHORT

    def unsettled(self, name: str) -> Record | None:
        """Give the first failed or running record that concerns an image which expects `name`.

        That is one at or below the revision, or any while the revision is not applied; what fails above it does not
        concern its image.
        """
        dirty = self.dirty
        if dirty is None or not self.contains(name):
            return dirty
        if self.history is History.NUMBER:
            return None  # `contains` counts what is below the number that is dirty, and nothing else
        key = self.versioning.key
        place = self._index.get(key(name), -1)  # older than a baseline, if it is not recorded
        return dirty if key(dirty.revision) == key(name) or place >= self._below_dirt else None

    @cached_property
    def _below_dirt(self) -> int:
        """How many applied revisions come before the first dirty record."""
        key = self.versioning.key
        before = (record.revision for record in takewhile(lambda r: r.state is State.APPLIED, self.records))
        return len({*map(key, self.remembered), *map(key, before)})

    def gap(self, revision: Revision) -> bool:
        """Tell whether something that the image knows up to `revision` is missing here.

        Fewer than COUNT revisions up to NAME, or as many with another digest, is a gap. More than COUNT is none: a late
        merge that an older image does not know. The short form cannot show a gap; a NAME that is not applied is one.
        Where it cannot be told, there is none: below a head without history, or above a baseline; and digests are
        compared only where NAME is written as the ledger identifies it, since those over file names are none over
        versions.
        """
        place = self._index.get(self.versioning.key(revision.name))
        if place is None:
            return not self.contains(revision.name)
        if revision.count is None or self.history in {History.NUMBER, History.HEADS} or self._baseline:
            return False
        # What ran in some order is known as a set only: the number of all, and the digest over all of them sorted.
        executed = self.history is History.EXECUTION
        known = len(self._index) if executed else place + 1
        if known != revision.count or self.versioning.key(revision.name) != revision.name:
            return known < revision.count
        return (self._set_digest if executed else self._digests[place]) != revision.digest

    def barrier(self, name: str) -> Record | None:
        """Give the applied contract migration that shuts out images which expect `name`; None when they can run.

        It is newer than `name`, and so is its `compatible_from`. Of several, the one that asks most is given. Only the
        native ledger records contract migrations, and its order is that of the names.
        """
        floor, sort_key = self.floor, self.versioning.sort_key
        if floor is None or floor.compatible_from is None:
            return None
        return floor if min(sort_key(floor.revision), sort_key(floor.compatible_from)) > sort_key(name) else None

    @cached_property
    def _baseline(self) -> Record | None:
        """The newest applied baseline."""
        baselines = [record for record in self.records if record.baseline and record.state is State.APPLIED]
        return max(baselines, key=lambda record: self.versioning.sort_key(record.revision), default=None)

    def _precedes(self, name: str) -> bool:
        """Tell whether this one is older than a baseline."""
        baseline, sort_key = self._baseline, self.versioning.sort_key
        return baseline is not None and sort_key(name) < sort_key(baseline.revision)

    def _reaches(self, name: str) -> bool:
        """Tell whether the one number that is recorded is at least this one; a dirty one counts for those below it."""
        wanted, _ = self.versioning.sort_key(name)
        if not wanted:
            return self.versioning.key(name) in self._index
        tops = ((self.versioning.sort_key(record.revision)[0], record.state) for record in self.records)
        return any(wanted <= top if state is State.APPLIED else wanted < top for top, state in tops)
