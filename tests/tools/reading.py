"""A ledger that a tool wrote, as we read it: by the dialect's name and by detection."""

from migrations.address import Address
from migrations.database import connect
from migrations.dialects import find
from migrations.ledger import Ledger
from migrations.source import Source, locate, read

PATIENCE = 30.0
"""Seconds for each query: where the tools themselves run, a machine may be too busy for the default, 1 s."""


async def reading(name: str, database: str) -> Ledger:
    """Read a ledger, and see that `auto` finds the same."""
    address = Address.from_url(database)
    session = await connect(address, timeout=10, application_name="reading")
    try:
        ledger = await read(session, Source(address, find(name)), limit=PATIENCE)
        auto = Source(address, find("auto"))
        assert (await locate(session, auto, limit=PATIENCE)).dialect.name == name
        assert await read(session, auto, limit=PATIENCE) == ledger
    finally:
        await session.close()
    return ledger
