"""What `down` will do: decided from the files, the ledger and the command's arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.migration import Undo
from migrations.core.plan import Obstacle, Refusal, describe_edit, dirty_text, edited_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.ledger import Ledger
    from migrations.core.migration import Migration, SectionBody


@dataclass(frozen=True, slots=True)
class DownPlan:
    """What `down` will do.

    Attributes:
        steps: Migrations to undo, newest first, each with its down section.
    """

    steps: tuple[tuple[Migration, SectionBody], ...]


def plan_down(
    migrations: Sequence[Migration], ledger: Ledger, *, steps: int | None = None, target: str | None = None
) -> DownPlan | Refusal:
    """Decide what `down` will do: undo the last batch, or the newest `steps` revisions, or all after `target`.

    The last batch is what the last `up` applied. Revisions that `baseline` recorded (batch 0) belong to no batch, so
    they are undone only with `steps` or `target`. The plan undoes all of these revisions, or is refused.

    Args:
        migrations: The files, in order.
        ledger: The ledger as it is now.
        steps: How many revisions to undo; all where there are fewer.
        target: Canonical name of the newest revision that stays.
    """
    obstacles = []
    if target is not None and not ledger.contains(target):
        newest = f"the newest one is {ledger.head}" if ledger.head else "there is none"
        text = f"expected --to to name an applied revision, the newest that is to stay, got {target!r}; {newest}"
        obstacles.append((Obstacle.TARGET, text))
    elif ledger.dirty is not None:
        obstacles.append((Obstacle.DIRTY, dirty_text(ledger.dirty)))
    files = {migration.revision: migration for migration in migrations}
    edits = {migration.revision: (migration, record) for migration, record in edited_files(migrations, ledger)}
    chosen: list[tuple[Migration, SectionBody]] = []
    for revision in [] if obstacles else _revisions_to_undo(ledger, steps, target):
        migration = files.get(revision)
        if migration is None:
            text = f"{revision} is applied, but has no file here, so it cannot be undone: use the image that applied it"
            obstacles.append((Obstacle.MISSING, text))
        elif revision in edits:
            remedy = "restore the file, whose down section is the one that fits what was applied"
            obstacles.append((Obstacle.CHANGED, describe_edit(*edits[revision], remedy)))
        elif migration.down is None:
            why = "declares that it cannot be undone" if migration.undo is Undo.NONE else "has no down section"
            text = (
                f"{migration.path} {why}, and the file must stay as it was applied: "
                "put what undoes it into a new migration"
            )
            obstacles.append((Obstacle.NO_DOWN, text))
        else:
            chosen.append((migration, migration.down))
    return Refusal(tuple(obstacles)) if obstacles else DownPlan(tuple(chosen))


def _revisions_to_undo(ledger: Ledger, steps: int | None, target: str | None) -> list[str]:
    newest_first = list(reversed(ledger.applied))
    if target is not None:
        return newest_first[: ledger.count_newer(target)]
    if steps is not None:
        return newest_first[:steps]
    batches = {record.revision: record.batch or 0 for record in ledger.records}
    last = max((batches[revision] for revision in newest_first), default=0)
    return [revision for revision in newest_first if last and batches[revision] == last]
