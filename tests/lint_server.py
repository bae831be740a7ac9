"""A session of PostgreSQL that is watched for what lint claims: locks, files of tables, scans and index builds."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

# PostgreSQL logs at DEBUG1 when it scans or rewrites a table or builds an index.
SCAN_OR_BUILD = re.compile(r'(rewriting|verifying) table|validating foreign key|building index "(?!pg_toast)')
STRONG = {"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"}


@dataclass(slots=True)
class LintSession:
    """A connection to a database with the schema, and the messages that the server sends."""

    connection: asyncpg.Connection[asyncpg.Record]
    messages: list[str]

    async def locks(self) -> set[tuple[str, str]]:
        """Return the locks that the open transaction holds, as relation and mode."""
        rows = await self.connection.fetch(
            "select relation::regclass::text as name, mode from pg_locks "
            "where pid = pg_backend_pid() and locktype = 'relation'"
        )
        return {(row["name"], row["mode"]) for row in rows}

    async def filenode(self) -> int:
        """Return the number of the file that stores the rows of t."""
        number: int = await self.connection.fetchval("select pg_relation_filenode('t')")
        return number

    def scans_and_builds(self) -> list[str]:
        """Return the messages about scans and index builds since the last call."""
        found = [text for text in self.messages if SCAN_OR_BUILD.search(text)]
        self.messages.clear()
        return found


@asynccontextmanager
async def watched(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[LintSession]:
    """Yield a session whose time zone is not UTC, and whose server tells of scans."""
    messages: list[str] = []

    def record(_: object, message: object) -> None:
        messages.append(str(message))

    await connection.execute("set client_min_messages = debug1; set timezone = 'Asia/Tokyo'")
    connection.add_log_listener(record)
    messages.clear()
    yield LintSession(connection, messages)
    connection.remove_log_listener(record)
