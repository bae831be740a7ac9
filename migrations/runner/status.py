"""Looks at any ledger once: where it is, what it holds, and who is at work on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres import advisory_lock
from migrations.reader.activity import read_row_lock
from migrations.reader.reader import READ_TIMEOUT, LedgerReader
from migrations.runner.locked_session import open_session

if TYPE_CHECKING:
    from migrations.core.ledger import Ledger
    from migrations.core.snapshot import RowLock
    from migrations.dialects.detection import Location
    from migrations.postgres.advisory_lock import LockHolder
    from migrations.runner.run import RunOptions


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """A ledger as it is now.

    Attributes:
        location: Where it is, and in which dialect.
        ledger: What it holds.
        holder: Who holds our lock of it; None when nobody does.
        row_lock: The tool's own lock that is a row, while it is taken.
    """

    location: Location
    ledger: Ledger
    holder: LockHolder | None
    row_lock: RowLock | None


async def read_status(run: RunOptions) -> LedgerStatus:
    """Read a ledger of any dialect without writing.

    Raises:
        DatabaseError: The database cannot be reached in time, or not used.
        LedgerUnreadable: The table is none of the dialect's; or with `auto`, there is none.
    """
    async with open_session(run) as connected:
        reader = LedgerReader(connected, run.source)
        ledger = await reader.read(limit=READ_TIMEOUT)
        location = reader.location
        if location is None or not location.place.table:
            raise LedgerUnreadable(
                "expected the ledger of a tool that is known, found none; name the tool with --dialect"
            )
        holder = await advisory_lock.find_holder(connected, advisory_lock.lock_key(location.place.relation))
        return LedgerStatus(location, ledger, holder, await read_row_lock(connected, location))
