"""Sessions with PostgreSQL. The only module that imports asyncpg; it raises the errors of `postgres.errors`."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlencode

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
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from asyncpg.connect_utils import SessionAttribute
    from asyncpg.transaction import Transaction

    from migrations.postgres.address import Address, Server, Tls

_SQL = load("session")
_CLOSE_TIMEOUT = 1.0
"""Seconds for a clean end: a rollback, or the Terminate message. After it the socket is closed, and the server rolls
back."""
_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class Session:
    """One connection to PostgreSQL, opened by `connect`. Every method that sends something raises `DatabaseError`."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.raw = connection
        """The asyncpg connection, which Python migrations get."""
        self.parameters: Mapping[str, str] = {}
        """The run-time parameters that `configure` has set."""
        self.lock_pid: int | None = None
        """The backend that acquired the advisory lock; None while it is not held."""

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""
        return self.raw.is_closed()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, as the server's last ReadyForQuery message said."""
        return self.raw.is_in_transaction()

    @property
    def announced_pid(self) -> int:
        """The backend's process id as announced at connection; a pooler announces a number of its own."""
        return self.raw.get_server_pid()

    async def execute(self, sql: str, *arguments: object) -> None:
        """Run one statement with arguments, or any number of statements without arguments as one message."""
        with self._translate_errors():
            await self.raw.execute(sql, *arguments)

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """Run one statement and return its rows."""
        with self._translate_errors():
            return await self.raw.fetch(sql, *arguments)  # type: ignore[return-value]  # a Record has a Mapping's methods

    async def fetch_value(self, sql: str, *arguments: object) -> Any:
        """Run one statement and return the first column of its first row; None without a row."""
        with self._translate_errors():
            return await self.raw.fetchval(sql, *arguments)

    async def configure(self, parameters: Mapping[str, str]) -> None:
        """Set run-time parameters for the session, except those that this server version does not know."""
        self.parameters = parameters
        await self.fetch(_SQL["configure"], list(parameters), list(parameters.values()))

    async def reset(self) -> None:
        """Undo `set role` and every `set` since `configure`.

        RESET ALL leaves the role as it is: https://www.postgresql.org/docs/current/sql-set-role.html
        """
        await self.execute("reset role; reset all")
        await self.configure(self.parameters)

    async def table_exists(self, relation: str) -> bool:
        """Return whether there is a table of this quoted name, without locking it."""
        return bool(await self.fetch_value(_SQL["exists"], relation))

    async def schema_exists(self, schema: str) -> bool:
        """Return whether there is a schema of this quoted name."""
        return bool(await self.fetch_value(_SQL["schema_exists"], schema))

    async def probe_backend(self) -> tuple[int, bool]:
        """Return the process id of the backend that answers, and whether it is read-only.

        Runs in a transaction of its own: a pooler in transaction mode may give each transaction another backend.
        """
        await self.execute("begin")
        row = (await self.fetch(_SQL["identity"]))[0]
        await self.execute("commit")
        return row["pid"], row["read_only"]

    async def listen(self, channel: str, on_notify: Callable[[], None]) -> None:
        """Call `on_notify` at every NOTIFY on the channel, until the session ends.

        Raises:
            ServerReadOnly: A standby does not support LISTEN.
        """
        with self._translate_errors():
            await self.raw.add_listener(channel, lambda *_: on_notify())

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the connection ends, for whatever reason."""
        self.raw.add_termination_listener(lambda _: callback())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit after the block, or roll back when the block raises."""
        # DEFERRABLE has no effect on a transaction that writes. It marks this transaction, so that a ledger row can be
        # refused in one that a migration began after ending ours; see LedgerWriter.guarded_statement.
        transaction = self.raw.transaction(deferrable=True)
        with self._translate_errors():
            await transaction.start()
        try:
            yield
        except BaseException:
            await self._rollback_transaction(transaction)
            raise
        with self._translate_errors():
            await transaction.commit()

    @asynccontextmanager
    async def read_only(self, limit: float = 1.0) -> AsyncIterator[None]:
        """Run the block in a read-only transaction with one snapshot.

        Args:
            limit: Seconds that each statement, and each wait for a lock, may take.
        """
        await self.execute(bind(_SQL["read_only"], limit=str(round(limit * 1000))))
        try:
            yield
        finally:
            if not self.closed:
                await self.execute("rollback")

    async def rollback(self) -> None:
        """Roll back what is open; close the connection when that fails or takes longer than a second."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                if not self.closed:
                    # Sent even when no transaction seems to be open: after a cancelled statement the server's state is
                    # not known here yet. Outside a transaction ROLLBACK is only a warning.
                    await self.raw.execute("rollback")
        except (*_DRIVER_ERRORS, TimeoutError):
            self.terminate()

    async def _rollback_transaction(self, transaction: Transaction) -> None:
        if self.closed or not self.in_transaction:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await transaction.rollback()
        except (*_DRIVER_ERRORS, TimeoutError):
            self.terminate()  # the server rolls back the transaction of a lost session

    async def close(self) -> None:
        """Close the connection cleanly; without a Terminate message when the server does not take it in time."""
        try:
            await self.raw.close(timeout=_CLOSE_TIMEOUT)
        except _DRIVER_ERRORS:
            self.raw.terminate()

    def terminate(self) -> None:
        """Close the socket at once."""
        self.raw.terminate()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            raise _translate(error) from error
        except asyncpg.InterfaceError as error:
            if not self.closed:
                raise  # a mistake of this program in using the driver
            raise ConnectionLost("the connection to the database is closed") from error
        except (asyncpg.InternalClientError, OSError) as error:
            # InternalClientError: the server closed the connection within a response, and asyncpg waits for the rest.
            self.terminate()
            raise ConnectionLost(f"the connection to the database broke: {_describe(error)}") from error


async def connect(
    address: Address,
    *,
    timeout: float,  # noqa: ASYNC109 - the message names it
    application_name: str,
    writable: bool = False,
) -> Session:
    """Open a session.

    Args:
        address: The database and the role.
        timeout: Seconds for connection and authentication together.
        application_name: What `pg_stat_activity` shows; PostgreSQL cuts it at 63 bytes.
        writable: Whether to refuse a server that accepts no writes (a hot standby); of several hosts, the first that
            accepts writes is used. Source: https://www.postgresql.org/docs/current/libpq-connect.html,
            target_session_attrs

    Raises:
        DatabaseError: The session cannot be opened; the message names host, port and database, never the password.
    """
    wish = address.target_session_attrs
    if writable and wish in {"standby", "read-only", "prefer-standby"}:
        raise Misconfigured(
            f"{address} cannot be used: target_session_attrs (PGTARGETSESSIONATTRS) is {wish}, and this command writes"
        )
    try:
        async with asyncio.timeout(timeout):
            session = Session(
                await _connect_first(address, timeout, application_name, "read-write" if writable else wish)
            )
            _enable_keepalives(session.raw)
            return session
    except TimeoutError as error:
        raise Unreachable(f"{address} did not answer within {timeout:g} s") from error
    except asyncpg.PostgresError as error:
        translated = _translate(error, f"{address}: ")
        if type(translated) is StatementFailed or error.sqlstate == _PROTOCOL_VIOLATION:
            # A run-time parameter of the address that the server, or a pooler before it, refuses.
            raise Misconfigured(str(translated)) from error
        raise translated from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        if not writable:
            raise NotReady(f"{address}: no server is {wish}, as target_session_attrs demands") from error
        raise NotReady(f"{address} takes no writes: it is a standby, or read-only") from error
    except (asyncpg.InterfaceError, ValueError) as error:  # a refused certificate is a ValueError too
        raise Misconfigured(f"{address} cannot be used: {_describe(error)}") from error
    except OSError as error:
        if "rejected SSL upgrade" in str(error):
            text = f"{address} takes no TLS, which sslmode={address.tls.mode} demands"
            raise Misconfigured(text) from error
        raise Unreachable(f"{address} cannot be reached: {_describe(error)}") from error


async def _connect_first(
    address: Address, limit: float, application_name: str, wish: str
) -> asyncpg.Connection[asyncpg.Record]:
    """Connect to the first server that answers and is what `target_session_attrs` wishes.

    As in libpq, a server that refuses the role or the database ends the search.
    """
    servers = list(address.servers)
    if address.shuffled:
        random.shuffle(servers)
    failure: Exception = asyncpg.TargetServerAttributeNotMatched(wish)
    for attribute in ("standby", "any") if wish == "prefer-standby" else (wish,):
        for server in servers:
            try:
                # What is not given, asyncpg would take from the environment, not always as libpq does.
                return await asyncpg.connect(
                    _driver_dsn(address.tls),
                    host=[server.host],  # a list is not searched for ports
                    port=server.port,
                    user=address.user,
                    password=server.password,
                    database=address.database,
                    ssl=_driver_ssl(address.tls, server),
                    direct_tls=address.tls.direct,
                    # No named prepared statements: behind a pooler in transaction mode the next transaction may run on
                    # a server connection that does not have them.
                    statement_cache_size=0,
                    server_settings={**dict(address.settings), "application_name": application_name},
                    timeout=limit / len(servers),
                    target_session_attrs=cast("SessionAttribute", attribute),
                    krbsrvname=address.kerberos_service,
                    gsslib="gssapi",
                )
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched) as error:
                if isinstance(error, ValueError):
                    raise  # a certificate that is refused
                failure = error
    raise failure


def _driver_ssl(tls: Tls, server: Server) -> ssl.SSLContext | Literal["allow", "prefer", False]:
    """Return what asyncpg takes as `ssl`. It falls back from TLS, or to it, only when the mode is a word."""
    if tls.mode == "disable" or server.host.startswith("/"):
        return False
    if tls.mode in {"allow", "prefer"}:
        return "allow" if tls.mode == "allow" else "prefer"
    from migrations.postgres.tls import client_context  # noqa: PLC0415 - most databases are in the same network

    try:
        return client_context(tls, server.name)
    except (OSError, ValueError) as error:
        files = ", ".join(filter(None, (tls.root, tls.cert, tls.key, tls.crl))) or "the key sslrootcert"
        raise Misconfigured(
            f"the certificates of the database address cannot be used ({files}): {_describe(error)}"
        ) from error


def _driver_dsn(tls: Tls) -> str | None:
    """Return the URL that carries what asyncpg takes from a URL only, and only where it makes the TLS context."""
    parameters = {
        "sslcert": tls.cert,
        "sslkey": tls.key,
        "sslpassword": tls.password,
        "ssl_min_protocol_version": tls.minimum,
        "ssl_max_protocol_version": tls.maximum,
    }
    if tls.mode not in {"allow", "prefer"}:
        return None
    return "postgresql://?" + urlencode({key: value for key, value in parameters.items() if value})


_KEEPALIVE_OPTIONS = {
    "SO_KEEPALIVE": 1,
    "TCP_KEEPIDLE": 10,  # seconds
    "TCP_KEEPINTVL": 5,  # seconds
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,  # milliseconds
}


def _enable_keepalives(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Make the system report within half a minute that the peer has vanished, as libpq's keepalive parameters do.

    Source: https://man7.org/linux/man-pages/man7/tcp.7.html
    """
    transport = getattr(connection, "_transport", None)  # asyncpg offers no public way to its socket
    peer = transport and transport.get_extra_info("socket")
    if peer is None or peer.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    for name, value in _KEEPALIVE_OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:  # macOS lacks some of them
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            with suppress(OSError):
                peer.setsockopt(level, option, value)


_ERROR_BY_SQLSTATE: Mapping[str, type[StatementFailed]] = {
    "25006": ServerReadOnly,
    "42501": PermissionMissing,
    "42703": ColumnMissing,
    "42P01": TableMissing,
    "55P03": TimedOut,
    "57014": TimedOut,
}
_NOT_READY = {"53300", "57P03"}  # too many connections; starting up, shutting down or in recovery
_SESSION_ENDED = {"57P01", "57P02", "57P05"}  # by an administrator, by a crash of another backend, as idle
_DATABASE_MISSING = "3D000"
_PROTOCOL_VIOLATION = "08P01"


def _translate(error: asyncpg.PostgresError, prefix: str = "") -> DatabaseError:
    """Return the error of `postgres.errors` for a SQLSTATE (PostgreSQL, Appendix A)."""
    state, message = str(error.sqlstate), prefix + _describe(error)
    if state in _NOT_READY:
        return NotReady(message)
    if state in _SESSION_ENDED or state.startswith("08"):
        return ConnectionLost(message)
    if state.startswith("28"):
        return AuthenticationFailed(message)
    if state == _DATABASE_MISSING:
        return DatabaseMissing(message)
    position = str(error.position or "")
    kind = _ERROR_BY_SQLSTATE.get(state, StatementFailed)
    table, column = getattr(error, "table_name", None), getattr(error, "column_name", None)
    return kind(message, state, int(position) if position.isdigit() else None, column and f"{table}.{column}")


def _describe(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
