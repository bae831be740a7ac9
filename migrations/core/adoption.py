"""Decides what our own ledger takes over from another tool's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.ledger import History, State
from migrations.core.plan import describe_dirty, edited_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.core.ledger import Ledger, Record
    from migrations.core.migration import Migration


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """What to record.

    Attributes:
        steps: Files in order, each with what the other ledger says of it; None where that keeps numbers alone.
        pending: Files that are applied in neither ledger, and so still are to run.
    """

    steps: tuple[tuple[Migration, Record | None], ...]
    pending: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why nothing may be taken over.

    Attributes:
        problems: All of them: what is expected, what is there, how to go on.
    """

    problems: tuple[str, ...]


def plan_adoption(
    migrations: Sequence[Migration], ours: Ledger, theirs: Ledger, target: str | None = None
) -> AdoptionPlan | Mismatch:
    """Decide which files are applied already, as the other tool has recorded it.

    A file and a record are the same when they are in the other tool's eyes: whatever the extension, or by the digits
    alone. All of what is recorded must have a file: what nobody has here cannot be told from what is missing.

    Args:
        migrations: Our files, in order.
        ours: Our own ledger; what it holds already is left alone.
        theirs: The other tool's ledger.
        target: Canonical name of the last revision to take over; None for all.
    """
    wanted = [migration for migration in migrations if target is None or migration.revision <= target]
    problems = [*_of_theirs(theirs), *_of_ours(wanted, ours)]
    if theirs.history is not History.HEADS:
        problems += [*_without_file(migrations, theirs, target), *_ambiguous(wanted, theirs)]
        problems += _of_target(migrations, theirs, target)
    if problems:
        return Mismatch(tuple(problems))
    key = theirs.versioning.key
    records = {key(record.revision): record for record in theirs.records}
    found = [m for m in wanted if theirs.contains(m.revision) and not ours.contains(m.revision)]
    taken = {migration.revision for migration in found}
    return AdoptionPlan(
        tuple((migration, records.get(key(migration.revision))) for migration in found),
        tuple(m.revision for m in migrations if m.revision not in taken and not ours.contains(m.revision)),
    )


def _of_theirs(theirs: Ledger) -> Iterator[str]:
    if theirs.history is History.HEADS:
        yield (
            "expected a ledger that keeps what was applied, but this one keeps the newest revision alone "
            f"({theirs.head or 'none'}): name the last of the files that is in the database with --to, without --from"
        )
    for record in theirs.records:
        if record.state is not State.APPLIED:
            yield f"{record.revision} is {record.state} there: settle it with its own tool, then go on"


def _of_ours(wanted: Sequence[Migration], ours: Ledger) -> Iterator[str]:
    if ours.dirty is not None:
        yield f"{describe_dirty(ours.dirty)}; then go on"
    for migration, _ in edited_files(wanted, ours):
        yield f"{migration.path} was changed after our own ledger recorded it; restore the file"


def _without_file(migrations: Sequence[Migration], theirs: Ledger, target: str | None) -> Iterator[str]:
    versioning = theirs.versioning
    known = {versioning.key(migration.revision) for migration in migrations}
    for name in theirs.applied:
        beyond = target is not None and versioning.sort_key(name) > versioning.sort_key(target)
        if versioning.key(name) not in known and not beyond:
            yield f"{name} is recorded there, but has no file here: expected <14 digits>_<name>.sql or .py for it"


def _ambiguous(wanted: Sequence[Migration], theirs: Ledger) -> Iterator[str]:
    first: dict[str, Migration] = {}
    for migration in wanted:
        other = first.setdefault(theirs.versioning.key(migration.revision), migration)
        if other is not migration and theirs.contains(migration.revision):
            yield f"{other.path} and {migration.path} are one revision there: which of the two was applied?"


def _of_target(migrations: Sequence[Migration], theirs: Ledger, target: str | None) -> Iterator[str]:
    if target is None:
        return
    if all(migration.revision != target for migration in migrations):
        yield f"expected --to to name one of the migrations, got {target!r}"
    elif not theirs.contains(target):
        head = theirs.head or "none"
        yield f"expected --to to name a revision that is applied there, got {target}; its head is {head}"
