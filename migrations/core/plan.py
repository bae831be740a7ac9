"""What `up` will do, and why a command may be refused: decided from the files, the ledger and its arguments.

`down` and `baseline` have their own modules, which `up` does not load: its start-up time counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from migrations.core.ledger import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.core.ledger import Ledger, Record
    from migrations.core.migration import Migration


@dataclass(frozen=True, slots=True)
class UpPlan:
    """What `up` will do, and differences between the ledger and the files that do not prevent it.

    Attributes:
        steps: Migrations to apply, in order.
        batch: Number of the run that applies them.
        ahead: Applied revisions that are newer than every file: this image is older than the ledger.
        missing: Applied revisions without a file, although there is a file for a newer one.
        line_ends: Files that differ from what was applied by their line ends alone.
        left: The pending migrations that an expand phase leaves for the contract phase.
    """

    steps: tuple[Migration, ...]
    batch: int
    ahead: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    line_ends: tuple[str, ...] = ()
    left: tuple[Migration, ...] = ()


class Obstacle(StrEnum):
    """Why a command is refused."""

    TARGET = "Target"
    """No file is the target; for `down`, no applied revision is."""
    CHANGED = "Changed"
    """A file was edited after it was applied."""
    OUT_OF_ORDER = "OutOfOrder"
    """A pending revision is older than the head."""
    DIRTY = "Dirty"
    """A migration failed, or began and never ended."""
    MISSING = "Missing"
    """A revision to undo has no file."""
    NO_DOWN = "NoDown"
    """A revision to undo has no down section."""
    NOT_EMPTY = "NotEmpty"
    """The ledger is in use, and `baseline` has no target."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command changes nothing.

    Attributes:
        obstacles: Every one, with a message: what is expected, what is there and how to fix it.
    """

    obstacles: tuple[tuple[Obstacle, str], ...]

    @property
    def only_dirty(self) -> bool:
        """Whether a migration that failed or has not ended is the only obstacle."""
        return all(obstacle is Obstacle.DIRTY for obstacle, _ in self.obstacles)


def plan_up(
    migrations: Sequence[Migration],
    ledger: Ledger,
    target: str | None = None,
    *,
    out_of_order: bool = False,
    expand_only: bool = False,
) -> UpPlan | Refusal:
    """Decide what `up` will do.

    Where nothing is pending, a newer migration that is dirty and a ledger ahead of the files are not obstacles: an
    older image must be able to start.

    Args:
        migrations: The files, in order.
        ledger: The ledger as it is now.
        target: Canonical name of the last revision to apply; None for all.
        out_of_order: Whether a revision may be applied after a newer one.
        expand_only: Whether to leave the contract migrations at the end of the directory.
    """
    obstacles = list(unknown_target(migrations, target))
    obstacles += [(Obstacle.CHANGED, describe_edit(*edit)) for edit in edited_files(migrations, ledger)]
    wanted, left = _split_phases(migrations, ledger) if expand_only else (migrations, ())
    if any(migration.revision == target for migration in migrations[len(wanted) :]):
        obstacles.append((Obstacle.TARGET, _beyond_phase_text(str(target), wanted[-1].revision)))
    steps = tuple(m for m in wanted if not ledger.contains(m.revision) and (target is None or m.revision <= target))
    if steps and ledger.dirty is not None:
        obstacles.append((Obstacle.DIRTY, dirty_text(ledger.dirty)))
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
        line_ends=tuple(str(migration.path) for migration, _ in other_line_ends(migrations, ledger)),
        left=left,
    )


def _split_phases(migrations: Sequence[Migration], ledger: Ledger) -> tuple[Sequence[Migration], tuple[Migration, ...]]:
    """Return the migrations of the expand phase, and those of the contract phase that are not applied."""
    from migrations.core.contract import needed  # noqa: PLC0415 - `up` without --phase does not need it

    expand = needed(migrations)
    return expand, tuple(m for m in migrations[len(expand) :] if not ledger.contains(m.revision))


def _beyond_phase_text(target: str, last: str) -> str:
    return (
        f"expected --to to name a migration of the expand phase, got {target!r}: it is one of the contract migrations "
        f"at the end of the directory, and the expand phase ends at {last}; leave out --to, or use --phase contract"
    )


def edited_files(migrations: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Migration, Record]]:
    """Yield every file that was edited after it was applied, with its record; a change of line ends is no edit."""
    return (pair for pair in _other_checksums(migrations, ledger) if not pair[0].differs_by_line_ends(pair[1].checksum))


def other_line_ends(migrations: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Migration, Record]]:
    """Yield every file that differs from what was applied by its line ends alone, with its record."""
    return (pair for pair in _other_checksums(migrations, ledger) if pair[0].differs_by_line_ends(pair[1].checksum))


def _other_checksums(migrations: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Migration, Record]]:
    records = {record.revision: record for record in ledger.records if record.state is State.APPLIED}
    for migration in migrations:
        record = records.get(migration.revision)
        if record is not None and migration.checksum and record.checksum not in {None, migration.checksum}:
            yield migration, record


def describe_edit(
    migration: Migration, record: Record, remedy: str = "restore the file and put the change into a new migration"
) -> str:
    """Describe a file that was edited after it was applied, and what to do about it."""
    return (
        f"{migration.path} was changed after it was applied: expected SHA-256 {record.checksum}, got "
        f"{migration.checksum}; {remedy}"
    )


def describe_dirty(record: Record) -> str:
    """Describe a failed or running record, and how to settle it by hand."""
    name = record.revision
    if record.state is State.FAILED:
        text = f"{name} failed: {record.error}"
    else:
        text = f"{name} began {'to be undone ' if record.is_down else ''}and never ended: its run was killed"
    resolve = f"`ledgergate migrate resolve {name}"
    if resolve in text:  # the recorded error of a failure from which `up` can resume names all remedies itself
        return text
    return (
        f"{text.removesuffix('.')}. It ran outside a transaction, so part of it may be in place. Complete it by "
        f"hand and run {resolve} --applied`, or undo it by hand and run {resolve} --rolled-back`"
    )


def unknown_target(migrations: Sequence[Migration], target: str | None) -> Iterator[tuple[Obstacle, str]]:
    """Yield the obstacle that no file has the target's name."""
    if target is not None and all(m.revision != target for m in migrations):
        newest = f"the newest is {migrations[-1].revision}" if migrations else "there is none"
        yield Obstacle.TARGET, f"expected --to to name one of the migrations, got {target!r}; {newest}"


def _out_of_order(steps: Sequence[Migration], ledger: Ledger) -> Iterator[tuple[Obstacle, str]]:
    for migration in steps:
        if ledger.head is not None and migration.revision < ledger.head:
            text = (
                f"{migration.path} is older than {ledger.head}, which is applied already; give it a newer timestamp, "
                "or apply it late with --allow-out-of-order"
            )
            yield Obstacle.OUT_OF_ORDER, text


def dirty_text(record: Record) -> str:
    """Return what to do about a dirty record before anything else."""
    return f"{describe_dirty(record)}; then go on"
