"""Decides what `up`, `down` and `baseline` will do, from the files, the ledger and what was asked for alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.core.ledger import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.core.ledger import Ledger, Record
    from migrations.core.migration import Migration, SectionBody


@dataclass(frozen=True, slots=True)
class UpPlan:
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


@dataclass(frozen=True, slots=True)
class DownPlan:
    """What `down` will do.

    Attributes:
        steps: Migrations to undo, newest first, each with its down section.
    """

    steps: tuple[tuple[Migration, SectionBody], ...]


@dataclass(frozen=True, slots=True)
class BaselinePlan:
    """What `baseline` will do.

    Attributes:
        steps: Migrations to record without running them, in order.
    """

    steps: tuple[Migration, ...]


class Obstacle(StrEnum):
    """Why a run is refused."""

    TARGET = "Target"
    """The target is none of the files, or for `down` nothing that is applied."""
    CHANGED = "Changed"
    """A file was edited after it was applied."""
    OUT_OF_ORDER = "OutOfOrder"
    """A pending revision is older than the head."""
    DIRTY = "Dirty"
    """A migration failed, or began and never ended."""
    MISSING = "Missing"
    """What is to be undone has no file."""
    NO_DOWN = "NoDown"
    """What is to be undone has no down section."""
    NOT_EMPTY = "NotEmpty"
    """The ledger is in use, and it was not said how far it is to be filled."""


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


def plan_up(
    migrations: Sequence[Migration], ledger: Ledger, target: str | None = None, *, out_of_order: bool = False
) -> UpPlan | Refusal:
    """Decide what `up` will do.

    A ledger that already holds all that is wanted needs nothing, even where it is ahead of the files or a newer
    migration is dirty: an older image must be able to start.

    Args:
        migrations: The files, in order.
        ledger: What is recorded.
        target: Canonical name of the last revision to apply; None for all.
        out_of_order: Whether a revision may be applied after a newer one.
    """
    obstacles = list(_unknown_target(migrations, target))
    obstacles += [(Obstacle.CHANGED, text) for _, text in _edited(migrations, ledger, "up")]
    steps = tuple(m for m in migrations if not ledger.contains(m.revision) and (target is None or m.revision <= target))
    if steps and ledger.dirty is not None:
        obstacles.append((Obstacle.DIRTY, _dirty_text(ledger.dirty)))
    elif not out_of_order:
        obstacles += _out_of_order(steps, ledger)
    if obstacles:
        return Refusal(tuple(obstacles))
    known = {m.revision for m in migrations}
    newest = migrations[-1].revision if migrations else ""
    unknown = [revision for revision in ledger.applied if revision not in known]
    return UpPlan(
        steps,
        batch=1 + max((record.batch or 0 for record in ledger.records), default=0),
        ahead=tuple(revision for revision in unknown if revision > newest),
        missing=tuple(revision for revision in unknown if revision <= newest),
    )


def plan_down(
    migrations: Sequence[Migration], ledger: Ledger, *, steps: int | None = None, target: str | None = None
) -> DownPlan | Refusal:
    """Decide what `down` will do: undo the last batch, or the newest `steps` revisions, or all after `target`.

    The last batch is that of the last `up`; what `baseline` recorded (batch 0) belongs to none, so it is undone only
    when it is counted or named. All of it is possible, or nothing is begun.

    Args:
        migrations: The files, in order.
        ledger: What is recorded.
        steps: How many; more than there are is all.
        target: Canonical name of the newest revision that stays.
    """
    obstacles = []
    if target is not None and not ledger.contains(target):
        newest = f"the newest one is {ledger.head}" if ledger.head else "there is none"
        text = f"expected --to to name an applied revision, the newest that is to stay, got {target!r}; {newest}"
        obstacles.append((Obstacle.TARGET, text))
    elif ledger.dirty is not None:
        obstacles.append((Obstacle.DIRTY, _dirty_text(ledger.dirty)))
    files = {migration.revision: migration for migration in migrations}
    edited = dict(_edited(migrations, ledger, "down"))
    chosen: list[tuple[Migration, SectionBody]] = []
    for revision in [] if obstacles else _to_undo(ledger, steps, target):
        migration = files.get(revision)
        if migration is None:
            text = f"{revision} is applied, but has no file here, so it cannot be undone: use the image that applied it"
            obstacles.append((Obstacle.MISSING, text))
        elif revision in edited:
            obstacles.append((Obstacle.CHANGED, edited[revision]))
        elif migration.down is None:
            text = (
                f"{migration.path} does not say how it is undone; its file must stay as it was applied, "
                "so put what undoes it into a new migration"
            )
            obstacles.append((Obstacle.NO_DOWN, text))
        else:
            chosen.append((migration, migration.down))
    return Refusal(tuple(obstacles)) if obstacles else DownPlan(tuple(chosen))


def plan_baseline(migrations: Sequence[Migration], ledger: Ledger, target: str | None = None) -> BaselinePlan | Refusal:
    """Decide what `baseline` will record: every file up to the target that the ledger lacks.

    A ledger that is in use is only filled up to a target that was named: without one, what is merely pending would be
    taken for applied.

    Args:
        migrations: The files, in order.
        ledger: What is recorded.
        target: Canonical name of the last revision to record; None for all.
    """
    obstacles = list(_unknown_target(migrations, target))
    wanted = [migration for migration in migrations if target is None or migration.revision <= target]
    obstacles += [(Obstacle.CHANGED, text) for _, text in _edited(wanted, ledger, "baseline")]
    steps = tuple(migration for migration in wanted if not ledger.contains(migration.revision))
    if steps and ledger.dirty is not None:
        obstacles.append((Obstacle.DIRTY, _dirty_text(ledger.dirty)))
    elif steps and ledger.records and target is None:
        text = (
            f"the ledger is in use, its head is {ledger.head}: run `ledgergate migrate up` to apply the {len(steps)} "
            "that it lacks, or name with --to the last revision whose effects are in the database already"
        )
        obstacles.append((Obstacle.NOT_EMPTY, text))
    return Refusal(tuple(obstacles)) if obstacles else BaselinePlan(steps)


def edited_files(migrations: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Migration, Record]]:
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


def _edited(migrations: Sequence[Migration], ledger: Ledger, command: str) -> Iterator[tuple[str, str]]:
    for migration, record in edited_files(migrations, ledger):
        text = (
            f"{migration.path} was changed after it was applied: expected SHA-256 {record.checksum}, got "
            f"{migration.checksum}; restore the file"
        )
        yield migration.revision, text + _CHANGE[command]


_CHANGE = {
    "up": " and put the change into a new migration",
    "down": ", whose down section is the one that fits what was applied",
    "baseline": ", or use the directory that was applied",
}


def _to_undo(ledger: Ledger, steps: int | None, target: str | None) -> list[str]:
    newest_first = list(reversed(ledger.applied))
    if target is not None:
        return newest_first[: ledger.count_newer(target)]
    if steps is not None:
        return newest_first[:steps]
    batches = {record.revision: record.batch or 0 for record in ledger.records}
    last = max((batches[revision] for revision in newest_first), default=0)
    return [revision for revision in newest_first if last and batches[revision] == last]


def _out_of_order(steps: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Obstacle, str]]:
    for migration in steps:
        if ledger.head is not None and migration.revision < ledger.head:
            text = (
                f"{migration.path} is older than {ledger.head}, which is applied already; give it a newer timestamp, "
                "or apply it late with --allow-out-of-order"
            )
            yield Obstacle.OUT_OF_ORDER, text


def _dirty_text(record: Record) -> str:
    return f"{describe_dirty(record)}; then go on"


def describe_dirty(record: Record) -> str:
    """Say what a record tells that is failed or running, and how it is settled by hand."""
    name = record.revision
    if record.state is State.FAILED:
        text = f"{name} failed: {record.error}"
    else:
        text = f"{name} began {'to be undone ' if record.is_down else ''}and never ended: its run was killed"
    resolve = f"`ledgergate migrate resolve {name}"
    if resolve in text:  # a failure that `up` can go on from says so itself, and what else there is to do
        return text
    return (
        f"{text}. It ran outside a transaction, so part of it may be in place. Complete it by hand and run "
        f"{resolve} --applied`, or undo it by hand and run {resolve} --rolled-back`"
    )
