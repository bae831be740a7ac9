"""A ledger that a tool wrote, as we read it: by the dialect's name and by detection."""

from migrations.core.ledger import Ledger
from migrations.dialects.catalogue import find_dialect
from migrations.postgres.address import Address
from migrations.postgres.session import connect
from migrations.reader.reader import LedgerSource, locate_ledger, read_ledger

PATIENCE = 30.0
"""Seconds for each query: where the tools themselves run, a machine may be too busy for the default, 1 s."""


async def snapshot(name: str, database: str) -> Ledger:
    """Read a ledger, and see that `auto` finds the same."""
    address = Address.from_url(database)
    session = await connect(address, timeout=10, application_name="reading")
    try:
        ledger = await read_ledger(session, LedgerSource(address, find_dialect(name)), limit=PATIENCE)
        auto = LedgerSource(address, find_dialect("auto"))
        assert (await locate_ledger(session, auto, limit=PATIENCE)).dialect.name == name
        assert await read_ledger(session, auto, limit=PATIENCE) == ledger
    finally:
        await session.close()
    return ledger
