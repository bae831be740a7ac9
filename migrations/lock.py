"""The lock under which migrations are applied: a session-level advisory lock, tried for and never waited for.

A session that waits inside `pg_advisory_lock` holds a snapshot, for which CREATE INDEX CONCURRENTLY waits in turn: a
deadlock. So who does not get the lock hangs up and comes back later.
Source: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.statements import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from migrations.database import Session

_SQL = load("lock")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: Its backend on the server.
        application: Its `application_name`, which for us names the pod; None where our role may not see it.
        seconds: How long it has been connected.
    """

    pid: int
    application: str | None
    seconds: float | None

    def __str__(self) -> str:
        name = self.application or "another session"
        return f"{name} (backend {self.pid}" + (
            ")" if self.seconds is None else f", connected for {self.seconds:.0f} s)"
        )


def key(relation: str) -> int:
    """Give the key of a ledger's lock: the first 8 bytes, big-endian and signed, of SHA-256 over `ledgergate:RELATION`.

    Advisory locks belong to one database, so the database's name plays no part.

    Args:
        relation: Quoted, qualified name of the table, like `"public"."ledgergate_migrations"`.
    """
    digest = hashlib.sha256(f"ledgergate:{relation}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@asynccontextmanager
async def attempt(session: Session, number: int) -> AsyncIterator[bool]:
    """Try once for the lock, tell the block whether it is held, and let go of it afterwards."""
    held = bool(await session.value(_SQL["attempt"], number))
    try:
        yield held
    finally:
        if held and not session.closed:
            await session.value(_SQL["release"], number)


async def holder(session: Session, number: int) -> Holder | None:
    """Tell who holds the lock; None when nobody does (any more)."""
    rows = await session.rows(_SQL["holder"], number)
    return Holder(rows[0]["pid"], rows[0]["application_name"], rows[0]["seconds"]) if rows else None
