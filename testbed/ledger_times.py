"""What the native ledger says of times."""

import asyncio

import asyncpg


def last_commit(database: str) -> float:
    """When the newest migration was committed, in Unix time (its row is stamped just before)."""

    async def ask() -> float:
        connection = await asyncpg.connect(database)
        try:
            last = await connection.fetchval("select extract(epoch from max(finished_at)) from ledgergate_migrations")
        finally:
            await connection.close()
        return float(last)

    return asyncio.run(ask())
