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

from migrations.sql.statements import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from migrations.postgres.session import Session

_SQL = load("advisory_lock")


_PROGRAM = "ledgergate"
_NAME_BYTES = 63  # longer ones are cut: https://www.postgresql.org/docs/current/runtime-config-logging.html
_POD_BYTES = 24  # at least; the end of a pod's name tells it from its siblings


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds a lock.

    Attributes:
        pid: Its backend on the server.
        application: Its `application_name`; None where our role may not see it.
        seconds: Since when it has held the lock; None where that is not known.
        pod: Which of ours it is; None for a session that is none of ours.
        revision: What it runs now, cut where the name is long; None between two migrations.
        since: When it took the lock, by the server's clock and to the second; None where that is not known.
    """

    pid: int
    application: str | None
    seconds: float | None = None
    pod: str | None = None
    revision: str | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        name = self.pod or self.application or "another session"
        since = "" if self.seconds is None else f" for {self.seconds:.0f} s"
        running = f", running {self.revision}" if self.revision else ""
        return f"{name} (backend {self.pid}){since}{running}"


def application_name(pod: str, revision: str = "") -> str:
    """Give the name under which a session shows what it does: `ledgergate POD REVISION`, within 63 bytes.

    Of a pod that does not fit the end is kept, of a revision the beginning.
    """
    pod, revision = _plain(pod), _plain(revision)
    room = _NAME_BYTES - len(_PROGRAM) - 1
    if not revision:
        return f"{_PROGRAM} {pod[-room:]}"
    pod = pod[-max(room - 1 - len(revision), _POD_BYTES) :]
    return f"{_PROGRAM} {pod} {revision}"[:_NAME_BYTES]


def _plain(name: str) -> str:
    """Replace what PostgreSQL would, and blanks, which part the name."""
    return "".join(letter if "!" <= letter <= "~" else "?" for letter in name)


def lock_key(relation: str) -> int:
    """Give the key of a ledger's lock: the first 8 bytes, big-endian and signed, of SHA-256 over `ledgergate:RELATION`.

    Advisory locks belong to one database, so the database's name plays no part.

    Args:
        relation: Quoted, qualified name of the table, like `"public"."ledgergate_migrations"`.
    """
    digest = hashlib.sha256(f"ledgergate:{relation}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@asynccontextmanager
async def try_lock(session: Session, number: int) -> AsyncIterator[bool]:
    """Try once for the lock, tell the block whether it is held, and let go of it afterwards."""
    held = bool(await session.value(_SQL["attempt"], number, _companion(number)))
    try:
        yield held
    except BaseException:
        await session.abandon()  # the lock goes with the session
        raise
    if held and not session.closed:
        await session.value(_SQL["release"])


async def find_holder(session: Session, number: int) -> LockHolder | None:
    """Tell who holds the lock; None when nobody does (any more)."""
    rows = await session.rows(_SQL["holder"], number, _companion(number))
    if not rows:
        return None
    application = rows[0]["application_name"]
    words = (application or "").split(" ")
    ours = words[0] == _PROGRAM
    pod, revision = (words[place] if ours and len(words) > place else None for place in (1, 2))
    return LockHolder(rows[0]["pid"], application, rows[0]["seconds"], pod, revision, rows[0]["since"])


def _companion(number: int) -> int:
    """Give the key of the lock that says since when: the lower half, signed."""
    low = number & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low
