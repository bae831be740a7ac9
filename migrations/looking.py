"""Looks at any ledger once: where it is, what it holds, and who is at work on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations import lock
from migrations.dialects.dialect import LedgerUnreadable
from migrations.job import PATIENCE
from migrations.presence import row_lock
from migrations.runner import session
from migrations.source import Reader

if TYPE_CHECKING:
    from migrations.dialects.detection import Location
    from migrations.job import Job
    from migrations.ledger import Ledger
    from migrations.lock import Holder
    from migrations.reading import RowLock


@dataclass(frozen=True, slots=True)
class Look:
    """A ledger as it is now.

    Attributes:
        location: Where it is, and in which dialect.
        ledger: What it holds.
        holder: Who holds our lock of it; None when nobody does.
        row_lock: The tool's own lock that is a row, while it is taken.
    """

    location: Location
    ledger: Ledger
    holder: Holder | None
    row_lock: RowLock | None


async def look(job: Job) -> Look:
    """Read a ledger of any dialect without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
        LedgerUnreadable: The table is none of the dialect's; or with `auto`, there is none.
    """
    async with session(job) as connected:
        reader = Reader(connected, job.source)
        ledger = await reader.read(limit=PATIENCE)
        location = reader.location
        if location is None or not location.place.table:
            raise LedgerUnreadable(
                "expected the ledger of a tool that is known, found none; name the tool with --dialect"
            )
        holder = await lock.holder(connected, lock.key(location.place.relation))
        return Look(location, ledger, holder, await row_lock(connected, location))
