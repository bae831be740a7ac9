"""The content of a migration ledger, as a value that answers each question in constant time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Self

from migrations.core.revision import LEAF_SEPARATOR, digest_of, digests
from migrations.core.versioning import Versioning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from migrations.core.revision import Revision

DOWN_ERROR = "while it was undone"
"""How the column `error` of a native row begins while a `down` runs or has failed. It is recorded: never change it."""


class State(StrEnum):
    """How far a recorded migration has come; the values are those of the native ledger's column `state`."""

    RUNNING = "running"
    APPLIED = "applied"
    FAILED = "failed"


class History(StrEnum):
    """How much a tool records of the migrations that it has applied, and what their order is."""

    NAMES = "names"
    """Every migration; the order of the names is the order in which they must run, as in the directory."""
    EXECUTION = "execution"
    """Every migration, in the order in which they ran; the order that the tool requires is not recorded."""
    NUMBER = "number"
    """The newest migration only, a number: every lower number is applied too (golang-migrate)."""
    HEADS = "heads"
    """The newest migration of each branch only; their names have no order (Alembic)."""


class Position(StrEnum):
    """Where a ledger is, relative to the revision that an image expects."""

    AT_HEAD = "at-head"
    """The revision is applied, and nothing newer is."""
    AHEAD = "ahead"
    """The revision is applied, and newer ones are too."""
    BEHIND = "behind"
    """The revision is not applied."""
    PRESUMED_AHEAD = "presumed-ahead"
    """The image knows every ancestor of its revision, and the ledger's head is not among them: so the head is presumed
    to be newer."""
    UNKNOWN = "unknown"
    """The ledger's head is another revision, and it is not known which of the two is newer."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a ledger.

    Attributes:
        revision: Canonical name.
        state: How far it has come.
        checksum: SHA-256 of the migration file in hex, where the dialect records one.
        batch: Number of the run that applied it, where the dialect records one.
        compatible_from: For a contract migration, the oldest revision whose images can still run.
        error: Why it failed, in the database's words.
        started_at: When it began, UTC.
        finished_at: When it ended, UTC.
        duration_ms: How long it took, in milliseconds.
        applied_by: Pod or host that ran it.
        baseline: Whether everything older counts as applied too, although it is not recorded.
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
    def is_down(self) -> bool:
        """Whether what failed or never ended was a `down`, not an `up`."""
        return self.state is not State.APPLIED and (self.error or "").startswith(DOWN_ERROR)


@dataclass(frozen=True)  # no slots: cached_property stores its values in the instance's dictionary
class Ledger:
    """Every record of one ledger, oldest revision first; equal ledgers hold equal records.

    Methods that end in `_for` answer for an image that expects a revision. How much is known of what must have been
    applied before that revision depends on `history`.

    Attributes:
        records: The rows of the table, in the dialect's order, oldest first.
        history: How much the tool records.
        versioning: What makes a declared revision and a recorded one the same.
        former_heads: Heads that the ledger had before, oldest first, where the tool records heads only.
    """

    records: tuple[Record, ...] = ()
    history: History = History.NAMES
    versioning: Versioning = Versioning.NAME
    former_heads: tuple[str, ...] = ()
    _index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = self.versioning.key
        # A tool without a unique constraint (Knex) may record a name twice; it is still one revision.
        object.__setattr__(self, "_index", {key(name): index for index, name in enumerate(self.applied)})

    @classmethod
    def of(
        cls, records: Iterable[Record], history: History = History.NAMES, versioning: Versioning = Versioning.NAME
    ) -> Self:
        """Build the ledger from records in the dialect's order, oldest revision first."""
        return cls(tuple(records), history, versioning)

    def with_former_heads(self, names: Iterable[str]) -> Self:
        """Return the ledger with the heads that it was seen to have before, where the tool records heads only.

        A head that comes back was reached by a downgrade, so the heads seen after it are dropped. Pass `applied` of the
        result when the ledger is read again.

        Args:
            names: Those heads, oldest first.
        """
        if self.history is not History.HEADS:
            return self
        heads = {record.revision for record in self.records}
        seen = tuple(dict.fromkeys(names))
        if heads.issubset(seen):
            seen = seen[: max((index for index, name in enumerate(seen) if name in heads), default=0)]
        return replace(self, former_heads=tuple(name for name in seen if name not in heads))

    @cached_property
    def applied(self) -> tuple[str, ...]:
        """Names of the applied revisions, as far as they are known, each once, in ledger order."""
        key = self.versioning.key
        recorded = (record.revision for record in self.records if record.state is State.APPLIED)
        return tuple({key(name): name for name in (*self.former_heads, *recorded)}.values())

    @property
    def head(self) -> str | None:
        """The newest applied revision; None for an empty ledger. Of several branches, the head that was read last."""
        return self.applied[-1] if self.applied else None

    @cached_property
    def dirty(self) -> Record | None:
        """The first record that is failed or running; None when there is none."""
        return next((record for record in self.records if record.state is not State.APPLIED), None)

    @cached_property
    def strictest_contract(self) -> Record | None:
        """The applied contract migration with the newest `compatible_from`: images older than that cannot run."""
        contracts = [(r.compatible_from, r) for r in self.records if r.state is State.APPLIED and r.compatible_from]
        return max(contracts, key=lambda pair: self.versioning.sort_key(pair[0]))[1] if contracts else None

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        return tuple(digests(self._index))

    @cached_property
    def _set_digest(self) -> str:
        return digest_of(sorted(self._index))

    def contains(self, name: str) -> bool:
        """Return whether the revision with this canonical name is applied."""
        if self.history is History.NUMBER:
            return self._reaches(name)
        return self._place(name) is not None or self._precedes_baseline(name)

    def is_ahead_of(self, name: str) -> bool:
        """Return whether the revision is applied and newer ones are too."""
        return self.count_newer(name) > 0

    def count_newer(self, name: str) -> int:
        """Count the applied revisions that come after this one, as far as they are known; 0 when it is not applied."""
        index = self._place(name)
        if index is None:
            return int(self.contains(name))  # below a number or a baseline: at least that one is newer
        if self.history is History.HEADS and index >= len(self.former_heads):
            return 0  # another branch's head is not newer
        return len(self._index) - index - 1

    def position_for(self, name: str, ancestors: Collection[str] | None = None) -> Position:
        """Return where the ledger is, relative to the revision that an image expects.

        Args:
            name: The revision's canonical name.
            ancestors: Every revision that leads to it; None where the image does not declare them. Needed only where
                the tool records heads only.
        """
        if self.contains(name):
            return Position.AHEAD if self.is_ahead_of(name) else Position.AT_HEAD
        if self.history is not History.HEADS or not self._index:
            return Position.BEHIND
        heads = self.applied[len(self.former_heads) :]
        if ancestors is None:
            return Position.UNKNOWN
        return Position.PRESUMED_AHEAD if set(ancestors).isdisjoint(heads) else Position.BEHIND

    def dirty_for(self, name: str) -> Record | None:
        """Return the first failed or running record that concerns an image which expects this revision.

        That is a record of the revision itself or of an older one, or any record while the revision is not applied.
        """
        dirty = self.dirty
        if dirty is None or not self.contains(name):
            return dirty
        if self.history is History.NUMBER:
            return None  # `contains` is true only for revisions below a dirty number
        key = self.versioning.key
        place = self._place(name)
        index = -1 if place is None else place  # not recorded, so older than a baseline
        return dirty if key(dirty.revision) == key(name) or index >= self._applied_before_dirty else None

    @cached_property
    def _applied_before_dirty(self) -> int:
        """How many applied revisions come before the first dirty record."""
        key = self.versioning.key
        before = (record.revision for record in takewhile(lambda r: r.state is State.APPLIED, self.records))
        return len({*map(key, self.former_heads), *map(key, before)})

    def is_complete_for(self, revision: Revision) -> bool:
        """Return whether all migrations that an image knows, up to the revision that it expects, are applied.

        In the short form that is the revision itself. In the long form, fewer than COUNT revisions up to NAME, or COUNT
        revisions with another digest, are incomplete; more than COUNT are complete: a late merge added one that an
        older image does not know.

        A ledger that cannot show a missing migration counts as complete: one that records only its heads or a number,
        and one with a baseline. Digests are compared only where NAME is written as the ledger identifies it: a digest
        over file names never equals one over versions.
        """
        index = self._place(revision.name)
        if index is None:
            return self.contains(revision.name)
        if revision.count is None or self.history in {History.NUMBER, History.HEADS} or self._baseline:
            return True
        known = self._count_up_to(index)
        if known != revision.count or self.versioning.key(revision.name) != revision.name:
            return known >= revision.count
        return self._digest_up_to(index) == revision.digest

    def extent(self, name: str) -> tuple[int, str] | None:
        """Return how many revisions are applied up to this one and the digest over them, as COUNT.DIGEST declares them.

        None where the revision is not recorded as applied, or the tool's ledger could confirm neither.
        """
        index = self._index.get(self.versioning.key(name))
        if index is None or self.history in {History.NUMBER, History.HEADS}:
            return None
        return self._count_up_to(index), self._digest_up_to(index)

    def can_tell(self, _revision: Revision) -> bool:
        """Return whether this ledger shows if the revision is applied and complete.

        A ledger that was read as a whole always does; a subclass that knows only the newest part overrides this.
        """
        return True

    # The order of execution does not show what must precede a revision. There, all applied revisions count, as a set.

    def _count_up_to(self, index: int) -> int:
        return len(self._index) if self.history is History.EXECUTION else index + 1

    def _digest_up_to(self, index: int) -> str:
        return self._set_digest if self.history is History.EXECUTION else self._digests[index]

    def incompatible_contract_for(self, name: str) -> Record | None:
        """Return the applied contract migration with which an image that expects this revision cannot run, if any.

        Both the contract migration and its `compatible_from` are newer than the revision. Of several, the one with the
        newest `compatible_from` is returned. Only the native ledger records contract migrations, in the order of names.
        """
        contract, sort_key = self.strictest_contract, self.versioning.sort_key
        if contract is None or contract.compatible_from is None:
            return None
        oldest = min(sort_key(contract.revision), sort_key(contract.compatible_from))
        return contract if oldest > sort_key(name) else None

    @cached_property
    def _baseline(self) -> Record | None:
        """The newest applied baseline."""
        baselines = [record for record in self.records if record.baseline and record.state is State.APPLIED]
        return max(baselines, key=lambda record: self.versioning.sort_key(record.revision), default=None)

    def _place(self, name: str) -> int | None:
        """Return the place of an applied revision; None where it is not recorded as applied.

        A Django project declares one name for each application, joined. All of them must be applied; the place of the
        last one counts.
        """
        key = self.versioning.key
        index = self._index.get(key(name))
        if index is None and self.history is History.EXECUTION and LEAF_SEPARATOR in name:
            places = [self._index.get(key(part)) for part in name.split(LEAF_SEPARATOR)]
            known = [place for place in places if place is not None]
            return max(known) if len(known) == len(places) else None
        return index

    def _precedes_baseline(self, name: str) -> bool:
        baseline, sort_key = self._baseline, self.versioning.sort_key
        return baseline is not None and sort_key(name) < sort_key(baseline.revision)

    def _reaches(self, name: str) -> bool:
        """Return whether the recorded number is at least the revision's; a dirty number shows only lower ones."""
        wanted, _ = self.versioning.sort_key(name)
        if not wanted:
            return self.versioning.key(name) in self._index
        tops = ((self.versioning.sort_key(record.revision)[0], record.state) for record in self.records)
        return any(wanted <= top if state is State.APPLIED else wanted < top for top, state in tops)
