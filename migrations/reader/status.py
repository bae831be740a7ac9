"""The status of a ledger: where it is, what it holds, and who migrates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.dialects.dialect import LedgerUnreadable
from migrations.postgres import advisory_lock
from migrations.reader.activity import find_hidden_row_lock, read_row_lock
from migrations.reader.reader import READ_TIMEOUT, LedgerReader

if TYPE_CHECKING:
    from migrations.core.ledger import Ledger
    from migrations.core.snapshot import RowLock
    from migrations.dialects.detection import Location
    from migrations.postgres.advisory_lock import LockHolder
    from migrations.postgres.session import Session
    from migrations.reader.reader import LedgerSource


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """The status of a ledger.

    Attributes:
        location: Where it is, and in which dialect.
        ledger: What it holds.
        holder: The session that holds our lock of it; None while the lock is free.
        row_lock: The tool's own lock row; None while it is free, cannot be read, or where the tool has none.
        hidden_row_lock: Quoted name of the lock row's table where the role may not read it.
    """

    location: Location
    ledger: Ledger
    holder: LockHolder | None
    row_lock: RowLock | None
    hidden_row_lock: str | None = None


async def read_status(session: Session, source: LedgerSource) -> LedgerStatus:
    """Read the status of a ledger of any dialect, without writing.

    Raises:
        DatabaseError: The connection was lost, or a query failed.
        LedgerUnreadable: The table is not a ledger of the dialect; or the dialect is `auto`, and there is no ledger.
    """
    reader = LedgerReader(session, source)
    ledger = await reader.read(limit=READ_TIMEOUT)
    location = reader.location
    if location is None or not location.table.name:
        raise LedgerUnreadable("expected the ledger of a known tool, found none; name the tool with --dialect")
    holder = await advisory_lock.find_holder(session, advisory_lock.lock_key(location.table.relation))
    row_lock = await read_row_lock(session, location)
    return LedgerStatus(location, ledger, holder, row_lock, await find_hidden_row_lock(session, location))
