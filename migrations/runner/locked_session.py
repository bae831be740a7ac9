"""Sessions that hold the ledger's lock, and the wait for it."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from migrations.core.backoff import Backoff
from migrations.postgres import advisory_lock
from migrations.postgres.connection import connect
from migrations.postgres.errors import NotReady, Unreachable
from migrations.runner.run import LockNotAcquired

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from migrations.postgres.session import Session
    from migrations.runner.reporter import Reporter
    from migrations.runner.run import RunOptions

SESSION_PARAMETERS = {
    # A session must not outlive its process: it would hold the lock, and its statement would go on beside the next run.
    # The server notices a closed socket only when it reads or writes, which it does not do within a long statement,
    # unless this check is on. Keepalives do the same for a machine that has vanished without closing its sockets.
    # https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS
    "client_connection_check_interval": "1s",  # PostgreSQL 14 and newer
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # Limits that the role or the database has are meant for the application. They would end the session that holds the
    # lock, for instance while `exec` runs a command.
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",  # PostgreSQL 14 and newer
    "transaction_timeout": "0",  # PostgreSQL 17 and newer
    # DEFERRABLE marks our own transactions, so no other may have it by default; see LedgerWriter.guarded_statement.
    "default_transaction_deferrable": "off",
}

FIRST_PAUSE = 0.05
"""Seconds before the second attempt at the lock or at a connection."""

LONGEST_PAUSE = 1.0
"""Seconds that the pause grows to; a waiting run holds no connection meanwhile."""

MAX_LOST_CONNECTIONS = 3
"""Connections that a run may lose on one migration before it gives up: the migration may be what crashes the server."""

Result = TypeVar("Result")


async def run_under_lock(
    run: RunOptions,
    reporter: Reporter,
    work: Callable[[Session], Awaitable[Result]],
    check_first: Callable[[Session], Awaitable[Result | None]] | None = None,
) -> Result | LockNotAcquired:
    """Acquire the ledger's lock, and return the result of `work` in the session that holds it.

    The lock is polled, never waited for in the server (see `advisory_lock`). Between two attempts the session is
    closed, so that a thousand waiting pods do not use up the server's connections.

    Args:
        run: The ledger, and how long to try.
        reporter: Reports who holds the lock.
        work: Called with the session; it must read the ledger again, which others can no longer change.
        check_first: Called before each attempt, without the lock; returns the result where no lock is needed.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
    key = advisory_lock.lock_key(run.relation)
    writable = False
    while True:
        async with open_session(run, writable=writable) as session:
            if check_first is not None and (result := await check_first(session)) is not None:
                return result
            pid, read_only = await session.probe_backend()
            if read_only and not writable:
                writable = True  # a standby was enough to see that nothing is to do; now the primary is needed
                continue
            if read_only:
                raise NotReady(f"{run.source.address} takes no writes: it is a standby, or read-only")
            from migrations.postgres.pooler import refuse_transaction_mode  # noqa: PLC0415 - most runs need no lock

            await refuse_transaction_mode(session, run.source.address, pid)
            async with advisory_lock.try_lock(session, key) as acquired:
                if acquired:
                    session.lock_pid = pid
                    refused = await session.configure(SESSION_PARAMETERS | run.limits.parameters)
                    for name, reason in refused.items():
                        text = f"the server refuses the setting {name}, so the run goes on without it: {reason}"
                        reporter.info("setting_refused", text, setting=name, reason=reason)
                    return await work(session)
            holder = await advisory_lock.find_holder(session, key)
        waited = clock() - began
        if waited >= run.lock_wait_timeout:
            return LockNotAcquired(holder)
        reporter.waiting(holder, waited)
        await asyncio.sleep(backoff.next())


@asynccontextmanager
async def open_session(run: RunOptions, *, writable: bool = False) -> AsyncIterator[Session]:
    """Yield a session, retrying for `connect_timeout` while the server cannot be reached or accepts no session yet.

    Args:
        run: The database, and how long to try.
        writable: Whether a server that accepts no writes counts as not ready.

    Raises:
        DatabaseError: The database cannot be reached in time, or cannot be used.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + run.connect_timeout
    backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
    reason: Unreachable | None = None
    while True:
        try:
            session = await connect(
                run.source.address,
                timeout=max(0.1, deadline - clock()),
                application_name=advisory_lock.application_name(run.applied_by),
                writable=writable,
            )
            break
        except Unreachable as error:
            # The deadline cuts the last attempt short. What an earlier one has found says more than that.
            reason = error if reason is None or clock() < deadline else reason
            pause = backoff.next()
            if clock() + pause >= deadline:
                raise type(reason)(f"{reason} (tried for {run.connect_timeout:g} s)") from reason
            await asyncio.sleep(pause)
    try:
        yield session
    except BaseException:
        # Without a Terminate message: after a cancellation or an error no time is left to wait for the server, which
        # rolls back and releases the lock when the socket closes.
        session.terminate()
        raise
    await session.close()
