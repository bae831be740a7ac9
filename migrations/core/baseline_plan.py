"""What `baseline` will record: decided from the files, the ledger and the command's arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.core.plan import Obstacle, Refusal, describe_edit, dirty_text, edited_files, unknown_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrations.core.ledger import Ledger
    from migrations.core.migration import Migration


@dataclass(frozen=True, slots=True)
class BaselinePlan:
    """What `baseline` will do.

    Attributes:
        steps: Migrations to record without running them, in order.
    """

    steps: tuple[Migration, ...]


def plan_baseline(migrations: Sequence[Migration], ledger: Ledger, target: str | None = None) -> BaselinePlan | Refusal:
    """Decide what `baseline` will record: every file up to the target that the ledger lacks.

    A ledger that is in use needs a target: without one, pending migrations would be recorded as applied.

    Args:
        migrations: The files, in order.
        ledger: The ledger as it is now.
        target: Canonical name of the last revision to record; None for all.
    """
    obstacles = list(unknown_target(migrations, target))
    wanted = [migration for migration in migrations if target is None or migration.revision <= target]
    remedy = "restore the file, or use the directory that was applied"
    obstacles += [(Obstacle.CHANGED, describe_edit(*edit, remedy)) for edit in edited_files(wanted, ledger)]
    steps = tuple(migration for migration in wanted if not ledger.contains(migration.revision))
    if steps and ledger.dirty is not None:
        obstacles.append((Obstacle.DIRTY, dirty_text(ledger.dirty)))
    elif steps and ledger.records and target is None:
        text = (
            f"the ledger is in use, its head is {ledger.head}: run `ledgergate migrate up` to apply the {len(steps)} "
            "that it lacks, or name with --to the last revision whose effects are in the database already"
        )
        obstacles.append((Obstacle.NOT_EMPTY, text))
    return Refusal(tuple(obstacles)) if obstacles else BaselinePlan(steps)
