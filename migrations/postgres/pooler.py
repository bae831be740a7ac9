"""Detection of a pooler in transaction mode, behind which a session-level lock is worthless.

Such a pooler (PgBouncer with `pool_mode = transaction`) may run each transaction of a session on another server
connection, so the lock would stay with a backend that serves other clients. It is recognised by what no other server or
pooler does: it lets a second client use our backend while our session is open. In session mode the backend stays with
the session.
Source: https://www.pgbouncer.org/features.html, "SQL feature map for pooling modes"
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from migrations.postgres.connection import connect
from migrations.postgres.errors import DatabaseError, Misconfigured

if TYPE_CHECKING:
    from migrations.postgres.address import Address
    from migrations.postgres.session import Session

_PROBES = 3
"""A pooler gives an idle server connection to the client that asks next. With other clients active at the same moment
one probe may not get ours; three in a row hardly miss it."""
_PROBE_TIMEOUT = 2.0  # seconds; a pool without a free server connection makes the probe wait


async def refuse_transaction_mode(session: Session, address: Address, pid: int) -> None:
    """Raise unless the session keeps its backend between transactions.

    Costs nothing without a pooler: then the backend that answers is the one that the server announced at connection.

    Args:
        session: Idle, outside a transaction.
        address: The address of the session, for a second client.
        pid: The backend that ran the session's last transaction.

    Raises:
        Misconfigured: The session does not keep its backend; the message names the remedy.
        DatabaseError: The connection was lost.
    """
    if session.announced_pid == pid:
        return
    for _ in range(_PROBES):
        if (await session.probe_backend())[0] != pid or await _is_shared(session, address, pid):
            raise Misconfigured(
                f"{address} is a pooler in transaction mode (PgBouncer: pool_mode = transaction): expected every "
                "transaction on one server connection, to which the lock belongs, got several; name the "
                "PostgreSQL server itself, or a pool with pool_mode = session, in the database URL of the migrations"
            )


async def _is_shared(session: Session, address: Address, pid: int) -> bool:
    """Return whether a second client gets our backend, or takes it from us while it is in a transaction."""
    try:
        probe = await connect(address, timeout=_PROBE_TIMEOUT, application_name="ledgergate probe")
    except DatabaseError:
        return False  # no server connection is free, so ours is not given to others
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            await probe.execute("begin")
            probe_pid = await probe.fetch_value("select pg_backend_pid()")
    except (DatabaseError, TimeoutError):
        probe.terminate()  # as above: the pool made the probe wait for a server connection
        return False
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            return probe_pid == pid or (await session.probe_backend())[0] != pid
    except TimeoutError:
        return True  # our own transaction waits for a server connection, which the probe now has
    finally:
        await probe.close()
