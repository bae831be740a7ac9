"""Sessions with PostgreSQL. Nothing else imports asyncpg; its errors leave here as ours, see `failures`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from migrations.postgres.errors import (
    AuthenticationFailed,
    ColumnMissing,
    ConnectionLost,
    DatabaseError,
    DatabaseMissing,
    Misconfigured,
    NotReady,
    PermissionMissing,
    ServerReadOnly,
    StatementFailed,
    TableMissing,
    TimedOut,
    Unreachable,
)
from migrations.sql.statements import bind, load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from asyncpg.transaction import Transaction

    from migrations.postgres.address import Address

_SQL = load("session")
_CLOSE_TIMEOUT = 1.0  # seconds for a goodbye; a peer that does not take it is left without one


_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class Session:
    """One connection, with what this package needs of it. Made by `connect`."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.raw = connection
        """The asyncpg connection, for Python migrations."""
        self.settings: Mapping[str, str] = {}
        """What `configure` has set."""
        self.locked_by: int | None = None
        """The backend that took the lock; None while it is not held."""

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self.raw.is_closed()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, as the server last said."""
        return self.raw.is_in_transaction()

    async def execute(self, sql: str, *arguments: object) -> None:
        """Run one statement with arguments, or several without, as one message.

        Raises:
            DatabaseError: As the tree says.
        """
        with self._translated():
            await self.raw.execute(sql, *arguments)

    async def rows(self, sql: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """Run one statement and give its rows.

        Raises:
            DatabaseError: As the tree says.
        """
        with self._translated():
            return await self.raw.fetch(sql, *arguments)  # type: ignore[return-value]  # a Record has a Mapping's methods

    async def value(self, sql: str, *arguments: object) -> Any:
        """Run one statement and give the first column of its first row.

        Raises:
            DatabaseError: As the tree says.
        """
        with self._translated():
            return await self.raw.fetchval(sql, *arguments)

    async def configure(self, settings: Mapping[str, str]) -> None:
        """Set run-time parameters for the whole session; those that the server does not know are left out."""
        self.settings = settings
        await self.rows(_SQL["configure"], list(settings), list(settings.values()))

    async def restore(self) -> None:
        """Take back whatever was set since `configure`, role and all."""
        await self.execute("reset role; reset all")
        await self.configure(self.settings)

    async def exists(self, relation: str) -> bool:
        """Tell whether the table of this quoted name is there, without creating or locking anything."""
        return bool(await self.value(_SQL["exists"], relation))

    async def schema_exists(self, schema: str) -> bool:
        """Tell whether the schema of this quoted name is there."""
        return bool(await self.value(_SQL["schema_exists"], schema))

    async def listen(self, channel: str, notified: Callable[[], None]) -> None:
        """Call `notified` at every NOTIFY on the channel, until the session ends.

        Raises:
            ServerReadOnly: A standby cannot listen.
        """
        with self._translated():
            await self.raw.add_listener(channel, lambda *_: notified())

    def on_close(self, closed: Callable[[], None]) -> None:
        """Call `closed` once when the connection ends, whoever ends it."""
        self.raw.add_termination_listener(lambda _: closed())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit what the block does, or roll it back when the block raises."""
        # DEFERRABLE means nothing to a transaction that writes, so it can tell ours from one that a migration began.
        transaction = self.raw.transaction(deferrable=True)
        with self._translated():
            await transaction.start()
        try:
            yield
        except BaseException:
            await self._roll_back(transaction)
            raise
        with self._translated():
            await transaction.commit()

    async def abandon(self) -> None:
        """Cancel what runs and roll back what is open, within a second; hang up when that cannot be had."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                if not self.closed:
                    await self.raw.execute("rollback")  # harmless where nothing is open, which we cannot know yet
        except (*_DRIVER, TimeoutError):
            self.terminate()

    async def identity(self) -> tuple[int, bool]:
        """Give the backend that answers now, and whether it refuses to write; in a transaction of its own.

        Raises:
            DatabaseError: As the tree says.
        """
        await self.execute("begin")
        row = (await self.rows(_SQL["identity"]))[0]
        await self.execute("commit")
        return row["pid"], row["read_only"]

    @property
    def announced_pid(self) -> int:
        """The backend as the server named it at the start; a pooler names none that exists."""
        return self.raw.get_server_pid()

    async def _roll_back(self, transaction: Transaction) -> None:
        if self.closed or not self.in_transaction:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await transaction.rollback()
        except (*_DRIVER, TimeoutError):
            self.terminate()  # the server rolls back what a lost session began

    @asynccontextmanager
    async def read_only(self, limit: float = 1.0) -> AsyncIterator[None]:
        """Give the block one consistent, read-only view, with a limit in seconds on every statement and lock."""
        await self.execute(bind(_SQL["read_only"], limit=str(round(limit * 1000))))
        try:
            yield
        finally:
            if not self.closed:
                await self.execute("rollback")

    async def close(self) -> None:
        """Say goodbye, or hang up when nobody listens."""
        try:
            await self.raw.close(timeout=_CLOSE_TIMEOUT)
        except _DRIVER:
            self.raw.terminate()

    def terminate(self) -> None:
        """Hang up at once."""
        self.raw.terminate()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            raise _ours(error) from error
        except asyncpg.InterfaceError as error:
            if not self.closed:
                raise  # our own misuse of the driver
            raise ConnectionLost("the connection to the database is closed") from error
        except (asyncpg.InternalClientError, OSError) as error:
            # The former: the server said goodbye in the middle of an answer, and the driver waits for the rest of it.
            self.terminate()
            raise ConnectionLost(f"the connection to the database broke: {_words(error)}") from error


async def connect(
    address: Address,
    *,
    timeout: float,  # noqa: ASYNC109 - a bound on all of it, which the message names
    application_name: str,
    settings: Mapping[str, str] | None = None,
    writable: bool = False,
) -> Session:
    """Open a session.

    Args:
        address: Where, and as whom.
        timeout: Seconds for all of it.
        application_name: What `pg_stat_activity` shows; PostgreSQL cuts it at 63 bytes.
        settings: Run-time parameters for the whole session.
        writable: Whether a server that takes no writes (a hot standby) will not do; of several hosts the first is
            taken that will. Source: https://www.postgresql.org/docs/current/libpq-connect.html, target_session_attrs

    Raises:
        DatabaseError: As the tree says; the message names host, port and database, never the password.
    """
    try:
        async with asyncio.timeout(timeout):
            session = Session(
                await asyncpg.connect(
                    address.url,
                    ssl=_tls(address),
                    # Unnamed statements only: a transaction pooler may have a named one on another connection.
                    statement_cache_size=0,
                    server_settings={"application_name": application_name},
                    timeout=timeout,
                    target_session_attrs="read-write" if writable else None,  # type: ignore[arg-type]
                )
            )
            _keep_alive(session.raw)
            if settings:
                await session.configure(settings)
            return session
    except TimeoutError as error:
        raise Unreachable(f"{address} did not answer within {timeout:g} s") from error
    except asyncpg.PostgresError as error:
        raise _ours(error, f"{address}: ") from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise NotReady(f"{address} takes no writes: it is a standby, or read-only") from error
    except (asyncpg.InterfaceError, ValueError) as error:  # a refused certificate is a ValueError too
        raise Misconfigured(f"{address} cannot be used: {_words(error)}") from error
    except OSError as error:
        raise Unreachable(f"{address} cannot be reached: {_words(error)}") from error


_KEEP_ALIVE = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}


def _keep_alive(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Let the system find out within half a minute that a peer is gone without a word, as libpq's keepalives do.

    Source: https://man7.org/linux/man-pages/man7/tcp.7.html
    """
    transport = getattr(connection, "_transport", None)  # asyncpg has no other way to its socket
    peer = transport and transport.get_extra_info("socket")
    if peer is None or peer.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    for name, value in _KEEP_ALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has all of them
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            with suppress(OSError):
                peer.setsockopt(level, option, value)


def _tls(address: Address) -> ssl.SSLContext | None:
    """Make what libpq would of certificates that come as text; asyncpg itself knows only files.

    Source: https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION (`require` with a root
    certificate verifies the authority, as `verify-ca` does; less than `require` verifies nothing).
    """
    mode = address.sslmode or "verify-full"
    if address.root_certificates is None or mode in {"disable", "allow", "prefer"}:
        return None
    context = ssl.create_default_context(cadata=address.root_certificates)
    context.check_hostname = mode == "verify-full"
    return context


_BY_STATE: Mapping[str, type[StatementFailed]] = {
    "25006": ServerReadOnly,
    "42501": PermissionMissing,
    "42703": ColumnMissing,
    "42P01": TableMissing,
    "55P03": TimedOut,
    "57014": TimedOut,
}
_NOT_READY = {"53300", "57P03"}  # too many connections; starting up, shutting down or recovering
_ENDED = {"57P01", "57P02", "57P05"}  # by an administrator, by a crash, for being idle
_DATABASE_MISSING = "3D000"


def _ours(error: asyncpg.PostgresError, where: str = "") -> DatabaseError:
    """Translate by SQLSTATE (PostgreSQL, Appendix A)."""
    state, message = str(error.sqlstate), where + _words(error)
    if state in _NOT_READY:
        return NotReady(message)
    if state in _ENDED or state.startswith("08"):
        return ConnectionLost(message)
    if state.startswith("28"):
        return AuthenticationFailed(message)
    if state == _DATABASE_MISSING:
        return DatabaseMissing(message)
    position = str(error.position or "")
    kind = _BY_STATE.get(state, StatementFailed)
    table, column = getattr(error, "table_name", None), getattr(error, "column_name", None)
    return kind(message, state, int(position) if position.isdigit() else None, column and f"{table}.{column}")


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
