"""What the native ledger takes over from another tool's ledger."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.ledger import History, State
from migrations.core.plan import dirty_text, edited_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrations.core.ledger import Ledger, Record
    from migrations.core.migration import Migration


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """What to record in the native ledger.

    Attributes:
        steps: Files to record as applied, in order, each with the other ledger's record; None where that ledger records
            numbers only.
        pending: Files that are applied in neither ledger, and are still to run.
    """

    steps: tuple[tuple[Migration, Record | None], ...]
    pending: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why nothing can be taken over.

    Attributes:
        problems: Every problem, with what is expected, what is there and what to do.
    """

    problems: tuple[str, ...]


def plan_adoption(
    migrations: Sequence[Migration], native: Ledger, foreign: Ledger, target: str | None = None
) -> AdoptionPlan | Mismatch:
    """Decide which files are applied already according to another tool's ledger.

    A file matches a record when the tool would identify both as the same revision: file extensions never count, and
    some tools compare only numbers. The tool's `001_init` matches the file `00000000000001_init.sql`. Each record must
    have a file, since a record without one may be a migration that the directory lost.

    Args:
        migrations: The files for ledgergate, in order.
        native: The native ledger; what it has recorded stays as it is.
        foreign: The other tool's ledger.
        target: Canonical name of the last revision to take over; None for all.
    """
    wanted = [migration for migration in migrations if target is None or migration.revision <= target]
    problems = [*_foreign_problems(foreign), *_native_problems(wanted, native)]
    if foreign.history is not History.HEADS:
        problems += [*_records_without_file(migrations, foreign, target), *_ambiguous_files(wanted, foreign)]
        problems += _target_problems(migrations, foreign, target)
    if problems:
        return Mismatch(tuple(problems))
    records = {_key(foreign, record.revision): record for record in foreign.records}
    found = [m for m in wanted if _is_applied(m.revision, foreign) and not native.contains(m.revision)]
    taken = {migration.revision for migration in found}
    return AdoptionPlan(
        tuple((migration, records.get(_key(foreign, migration.revision))) for migration in found),
        tuple(m.revision for m in migrations if m.revision not in taken and not native.contains(m.revision)),
    )


def _key(foreign: Ledger, name: str) -> str:
    """Return the key by which a file and the tool's records are compared; a short leading number gets 14 digits."""
    return foreign.versioning.key(_padded(name) or name)


def _padded(name: str) -> str | None:
    """Return the native form of a name like `001_init`, 00000000000001_init; None for a name of another form."""
    match = re.fullmatch(r"([0-9]{1,13})[_-](.+)", name, re.DOTALL)
    return match and f"{match[1]:0>14}_{match[2]}"


def _is_applied(name: str, foreign: Ledger) -> bool:
    return foreign.contains(name) or _key(foreign, name) in {_key(foreign, applied) for applied in foreign.applied}


def _foreign_problems(foreign: Ledger) -> Iterator[str]:
    if foreign.history is History.HEADS:
        yield (
            "expected a ledger that records every applied revision, but this one records the newest only "
            f"({foreign.head or 'none'}): name the last of the files that is in the database with --to, without --from"
        )
    for record in foreign.records:
        if record.state is not State.APPLIED:
            yield f"{record.revision} is {record.state} there: settle it with its own tool, then go on"


def _native_problems(wanted: Sequence[Migration], native: Ledger) -> Iterator[str]:
    if native.dirty is not None:
        yield dirty_text(native.dirty)
    for migration, _ in edited_files(wanted, native):
        yield f"{migration.path} was changed after the native ledger recorded it; restore the file"


def _records_without_file(migrations: Sequence[Migration], foreign: Ledger, target: str | None) -> Iterator[str]:
    versioning = foreign.versioning
    known = {_key(foreign, migration.revision) for migration in migrations}
    for name in foreign.applied:
        beyond = target is not None and versioning.sort_key(name) > versioning.sort_key(target)
        if _key(foreign, name) not in known and not beyond:
            file = _padded(name) or "<14 digits>_<name>"
            yield f"{name} is recorded there, but has no file here: expected {file}.sql or .py for it"


def _ambiguous_files(wanted: Sequence[Migration], foreign: Ledger) -> Iterator[str]:
    first: dict[str, Migration] = {}
    for migration in wanted:
        other = first.setdefault(_key(foreign, migration.revision), migration)
        if other is not migration and _is_applied(migration.revision, foreign):
            yield f"{other.path} and {migration.path} are one revision there: which of the two was applied?"


def _target_problems(migrations: Sequence[Migration], foreign: Ledger, target: str | None) -> Iterator[str]:
    if target is None:
        return
    if all(migration.revision != target for migration in migrations):
        yield f"expected --to to name one of the migrations, got {target!r}"
    elif not _is_applied(target, foreign):
        head = foreign.head or "none"
        yield f"expected --to to name a revision that is applied there, got {target}; its head is {head}"
