import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg


async def up(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute("create table a (id int)")
    sys.exit(0)
