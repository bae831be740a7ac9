"""Decides what a run will do, from the files, the ledger and the target alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.ledger import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.files import Migration
    from migrations.ledger import Ledger, Record


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and how the ledger differs from the files where that is no obstacle.

    Attributes:
        steps: Migrations to apply, in order.
        batch: Number of the run that applies them.
        ahead: Applied revisions that are newer than every file: this image is older than the ledger.
        missing: Applied revisions that have no file although newer ones have.
    """

    steps: tuple[Migration, ...]
    batch: int
    ahead: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Obstacle(StrEnum):
    """Why a run is refused."""

    TARGET = "Target"
    """The target is none of the files."""
    CHANGED = "Changed"
    """A file was edited after it was applied."""
    OUT_OF_ORDER = "OutOfOrder"
    """A pending revision is older than the head."""
    DIRTY = "Dirty"
    """A migration failed, or began and never ended."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing may be applied.

    Attributes:
        obstacles: Each with what is expected, what is there and how to fix it.
    """

    obstacles: tuple[tuple[Obstacle, str], ...]

    @property
    def dirty(self) -> bool:
        """Whether all that is wrong is a migration that failed or has not ended."""
        return all(obstacle is Obstacle.DIRTY for obstacle, _ in self.obstacles)


def plan(migrations: Sequence[Migration], ledger: Ledger, target: str | None = None) -> Plan | Refusal:
    """Decide what `up` will do.

    A ledger that already holds all that is wanted needs nothing, even where it is ahead of the files or a newer
    migration is dirty: an older image must be able to start.

    Args:
        migrations: The files, in order.
        ledger: What is recorded.
        target: Canonical name of the last revision to apply; None for all.
    """
    obstacles = [*_unknown_target(migrations, target), *_changed(migrations, ledger)]
    steps = tuple(m for m in migrations if not ledger.contains(m.revision) and (target is None or m.revision <= target))
    if steps and ledger.dirty is not None:
        obstacles.append((Obstacle.DIRTY, _dirty_text(ledger.dirty)))
    else:
        obstacles += _out_of_order(steps, ledger)
    if obstacles:
        return Refusal(tuple(obstacles))
    known = {m.revision for m in migrations}
    newest = migrations[-1].revision if migrations else ""
    unknown = [revision for revision in ledger.applied if revision not in known]
    return Plan(
        steps,
        batch=1 + max((record.batch or 0 for record in ledger.records), default=0),
        ahead=tuple(revision for revision in unknown if revision > newest),
        missing=tuple(revision for revision in unknown if revision <= newest),
    )


def changed(migrations: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Migration, Record]]:
    """Find the files that were edited after they were applied."""
    records = {record.revision: record for record in ledger.records if record.state is State.APPLIED}
    for migration in migrations:
        record = records.get(migration.revision)
        if record is not None and record.checksum not in {None, migration.checksum}:
            yield migration, record


def _unknown_target(migrations: Sequence[Migration], target: str | None) -> Iterator[tuple[Obstacle, str]]:
    if target is not None and all(m.revision != target for m in migrations):
        newest = f"the newest is {migrations[-1].revision}" if migrations else "there is none"
        yield Obstacle.TARGET, f"expected --to to name one of the migrations, got {target!r}; {newest}"


def _changed(migrations: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Obstacle, str]]:
    for migration, record in changed(migrations, ledger):
        text = (
            f"{migration.path} was changed after it was applied: expected SHA-256 {record.checksum}, got "
            f"{migration.checksum}; restore the file and put the change into a new migration"
        )
        yield Obstacle.CHANGED, text


def _out_of_order(steps: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Obstacle, str]]:
    for migration in steps:
        if ledger.head is not None and migration.revision < ledger.head:
            text = f"{migration.path} is older than {ledger.head}, which is applied already; give it a newer timestamp"
            yield Obstacle.OUT_OF_ORDER, text


def _dirty_text(record: Record) -> str:
    what = f"failed: {record.error}" if record.state is State.FAILED else "began and never ended: its run was killed"
    return (
        f"{record.revision} {what}. It ran outside a transaction, so part of it may be in place. Undo that by hand and "
        "delete its row from the ledger, or complete it by hand and set its row's state to 'applied'; then run up again"
    )
