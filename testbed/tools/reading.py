"""Reading a ledger that a tool wrote, by the dialect's name and by detection."""

from migrations.core.ledger import Ledger
from migrations.dialects.catalogue import find_dialect
from migrations.postgres.address import Address
from migrations.postgres.connection import connect
from migrations.reader.reader import LedgerSource, locate_ledger, read_ledger

PATIENCE = 30.0
"""Seconds for each query: on a machine that also runs the tools, the default of 1 s may be too short."""


async def snapshot(name: str, database: str) -> Ledger:
    """Read a ledger by its dialect and assert that `auto` reads the same."""
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
