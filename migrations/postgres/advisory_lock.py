"""The advisory lock under which migrations run: session-level, and acquired by polling.

A session that blocks inside `pg_advisory_lock` holds a snapshot. CREATE INDEX CONCURRENTLY of the lock's holder waits
for every older snapshot, so the two sessions would wait for each other. Therefore a client that does not get the lock
at once disconnects, and tries again later.
Source: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS

Beside the lock, its holder takes a companion lock whose second key is the time of acquisition: pg_locks shows who holds
a lock, but not since when. See sql/advisory_lock.sql.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrations.postgres.held_lock import HeldLock, companion_key
from migrations.sql.statements import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from migrations.postgres.session import Session

_SQL = load("advisory_lock")
_PROGRAM = "ledgergate"
_MAX_NAME_BYTES = 63  # longer names are cut: https://www.postgresql.org/docs/current/runtime-config-logging.html
_MIN_POD_BYTES = 24  # the end of a pod's name, which differs between the pods of a Deployment or Job


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The session that holds a lock.

    Attributes:
        pid: Process id of its backend on the server.
        application: Its `application_name`; None where our role may not see it.
        seconds: For how long it has held the lock; None where that is unknown.
        pod: The pod or host whose `ledgergate` it is; None for any other program.
        revision: The migration that it runs now, shortened where the name is long; None between two migrations.
        since: When it took the lock, by the server's clock and to the second; None where that is unknown.
    """

    pid: int
    application: str | None
    seconds: float | None = None
    pod: str | None = None
    revision: str | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        name = self.pod or self.application or "another session"
        duration = "" if self.seconds is None else f" for {self.seconds:.0f} s"
        running = f", running {self.revision}" if self.revision else ""
        return f"{name} (backend {self.pid}){duration}{running}"


def application_name(pod: str, revision: str = "") -> str:
    """Return the `application_name` of a session, `ledgergate POD REVISION`, in at most 63 bytes.

    `find_holder` reads it back. A pod's name that is too long loses its beginning, a revision its end.
    """
    pod, revision = _printable(pod), _printable(revision)
    room = _MAX_NAME_BYTES - len(_PROGRAM) - 1
    if not revision:
        return f"{_PROGRAM} {pod[-room:]}"
    pod = pod[-max(room - 1 - len(revision), _MIN_POD_BYTES) :]
    return f"{_PROGRAM} {pod} {revision}"[:_MAX_NAME_BYTES]


def _printable(name: str) -> str:
    """Replace what PostgreSQL would replace (all but printable ASCII), and blanks, which separate the parts."""
    return "".join(letter if "!" <= letter <= "~" else "?" for letter in name)


def lock_key(relation: str) -> int:
    """Return the key of a ledger's lock.

    It is the first 8 bytes, big-endian and signed, of the SHA-256 of `ledgergate:RELATION`. The name of the database is
    not part of it, since an advisory lock belongs to one database.

    Args:
        relation: Quoted, qualified name of the table, like `"public"."ledgergate_migrations"`.
    """
    digest = hashlib.sha256(f"ledgergate:{relation}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@asynccontextmanager
async def try_lock(session: Session, key: int) -> AsyncIterator[bool]:
    """Try once to acquire the lock, yield whether that succeeded, and release it after the block.

    When the block raises, the transaction is rolled back and the lock is left to the end of the session: the caller
    closes a session in which something failed.
    """
    since = await session.fetch_value(_SQL["attempt"], key, companion_key(key))
    acquired = since is not None
    session.lock = HeldLock(key, since) if acquired else None
    try:
        yield acquired
    except BaseException:
        await session.rollback()
        raise
    if acquired and not session.closed:
        await session.fetch_value(_SQL["release"])


async def find_holder(session: Session, key: int) -> LockHolder | None:
    """Return the session that holds the lock; None when it is free."""
    rows = await session.fetch(_SQL["holder"], key, companion_key(key))
    if not rows:
        return None
    application = rows[0]["application_name"]
    parts = (application or "").split(" ")
    is_ledgergate = parts[0] == _PROGRAM
    pod, revision = (parts[index] if is_ledgergate and len(parts) > index else None for index in (1, 2))
    seconds = rows[0]["seconds"]  # `since` is rounded, so that it may be ahead of the clock
    seconds = None if seconds is None else max(0.0, seconds)
    return LockHolder(rows[0]["pid"], application, seconds, pod, revision, rows[0]["since"])
