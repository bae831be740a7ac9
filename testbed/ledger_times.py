"""Times that the native ledger has recorded."""

import asyncio

import asyncpg


def last_commit(database: str) -> float:
    """Return when the newest migration was committed, in Unix time (its row is stamped just before)."""

    async def ask() -> float:
        connection = await asyncpg.connect(database)
        try:
            last = await connection.fetchval("select extract(epoch from max(finished_at)) from ledgergate_migrations")
        finally:
            await connection.close()
        return float(last)

    return asyncio.run(ask())
