"""Finds out a pooler that gives every transaction another server connection: a session's lock is worth nothing there.

Only such a pooler lets a second client have our backend while our session is open; in session mode it stays ours.
Source: https://www.pgbouncer.org/features.html, "SQL feature map for pooling modes"
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from migrations.postgres.errors import DatabaseError, Misconfigured
from migrations.postgres.session import connect

if TYPE_CHECKING:
    from migrations.postgres.address import Address
    from migrations.postgres.session import Session

_ROUNDS = 3
"""Of one look each: an idle connection is given to who asks next, unless others are about at the same moment."""
_TIMEOUT = 2.0  # seconds for a look; a pool without a free connection lets us wait


async def refuse_transaction_mode(session: Session, address: Address, pid: int) -> None:
    """Raise unless the session keeps its backend between transactions.

    Without a pooler, which the backend's own number shows, this costs nothing.

    Args:
        session: Idle, outside a transaction.
        address: Where it leads, for a second client.
        pid: The backend of the session's last transaction.

    Raises:
        Misconfigured: It does not; the message names the fix.
        DatabaseError: The connection was lost.
    """
    if session.announced_pid == pid:
        return
    for _ in range(_ROUNDS):
        if (await session.identity())[0] != pid or await _shared(session, address, pid):
            raise Misconfigured(
                f"{address} is a pooler in transaction mode (PgBouncer: pool_mode = transaction): expected every "
                "transaction on one server connection, which is what the lock lives on, got several; name the "
                "PostgreSQL server itself, or a pool with pool_mode = session, in the database URL of the migrations"
            )


async def _shared(session: Session, address: Address, pid: int) -> bool:
    """Tell whether a second client gets our backend, or keeps it from us while it is in a transaction."""
    try:
        other = await connect(address, timeout=_TIMEOUT, application_name="ledgergate probe")
    except DatabaseError:
        return False  # no connection is free: then ours is no shared one
    try:
        async with asyncio.timeout(_TIMEOUT):
            await other.execute("begin")
            theirs = await other.value("select pg_backend_pid()")
    except (DatabaseError, TimeoutError):
        other.terminate()  # the same
        return False
    try:
        async with asyncio.timeout(_TIMEOUT):
            return theirs == pid or (await session.identity())[0] != pid
    except TimeoutError:
        return True
    finally:
        await other.close()
