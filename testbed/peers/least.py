"""The smallest migration runner in Python on asyncpg: no lock, no checks, no report, no settings.

Its time is a lower bound for runners of this kind: the interpreter's start, the driver's import, the server's work.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import asyncpg

_LEDGER = "create table if not exists ledger (revision text primary key)"


async def up(migrations: Mapping[str, str]) -> None:
    """Apply the pending migrations, each with its ledger row in one transaction and one message to the server."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    await connection.execute(_LEDGER)
    applied = {row[0] for row in await connection.fetch("select revision from ledger")}
    for name, sql in migrations.items():
        if name not in applied:
            row = f"insert into ledger values ('{name}')"  # noqa: S608 - the benchmark's own names
            await connection.execute(f"begin; {sql}; {row}; commit")
    await connection.close()


if __name__ == "__main__":
    asyncio.run(up({path.stem: path.read_text() for path in sorted(Path("migrations").iterdir())}))
