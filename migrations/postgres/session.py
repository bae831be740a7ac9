"""Sessions with PostgreSQL. They raise the errors of `postgres.errors`, never those of the driver."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from migrations.postgres.driver_errors import DRIVER_ERRORS, decode, describe, translate
from migrations.postgres.errors import (
    AnswerUnreadable,
    ConnectionLost,
    MessageUnreadable,
    StatementFailed,
)
from migrations.sql.statements import bind, literal, load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from asyncpg.transaction import Transaction

    from migrations.postgres.held_lock import HeldLock

    _Base = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection

_SQL = load("session")
_CLOSE_TIMEOUT = 1.0
"""Seconds for a clean end: a rollback, or the Terminate message. After it the socket is closed, and the server rolls
back."""
_PARAMETERS_LIFETIME = 1.0
"""Seconds for which RESET ALL is trusted to restore the parameters whose reset value is ours. A reload of the server's
configuration changes reset values, and sessions are not notified."""


class Connection(_Base):
    """The connection that Python migrations get.

    It refuses COPY between server and client as a query: asyncpg would wait for ever.

    Attributes:
        reset_query: What `reset` sends; None for asyncpg's own statements, which release every advisory lock.
        closed_at: The calls that closed it, innermost first, as file and line; empty where the other side ended it.
        log_listener: A listener for notices that outlives a reset.
    """

    reset_query: str | None = None
    closed_at: Sequence[tuple[str, int]] = ()
    _source_traceback: Any = None  # asyncpg's __del__ reads it, also where its __init__ has failed before setting it
    log_listener: Callable[[Any, asyncpg.PostgresLogMessage], None] | None = None

    def get_reset_query(self) -> str:
        """Return the statements that `reset` sends."""
        return self.reset_query or super().get_reset_query()

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in asyncpg
        """Make the session like new, and forget every listener but `log_listener`, which is not called meanwhile."""
        await super().reset(timeout=timeout)
        if self.log_listener is not None and not self.is_closed():
            self.add_log_listener(self.log_listener)

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in asyncpg
        """Close the connection, and note the caller."""
        self.closed_at = self.closed_at or _calls()
        await super().close(timeout=timeout)

    def terminate(self) -> None:
        """Close the socket, and note the caller."""
        self.closed_at = self.closed_at or _calls()
        super().terminate()

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:  # noqa: ASYNC109 - as in asyncpg
        """Run a query, or several without arguments."""
        _refuse_copy(query)
        return await super().execute(query, *args, timeout=timeout)

    async def _get_statement(self, query: str, *args: Any, **options: Any) -> Any:  # called by all but `execute`
        _refuse_copy(query)
        return await super()._get_statement(query, *args, **options)  # type: ignore[misc]


def _refuse_copy(query: str) -> None:
    words = query.lower()
    if "copy" not in words or "std" not in words:
        return
    from migrations.files.psql_syntax import find_client_copy  # noqa: PLC0415 - few queries need it

    if find_client_copy(query):
        raise asyncpg.InterfaceError("COPY between server and client: call copy_to_table, copy_from_query or the like")


def _calls() -> Sequence[tuple[str, int]]:
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(None)]


def _set_all(parameters: Mapping[str, str]) -> str:
    return "".join(f"set {name} = {literal(value)};\n" for name, value in parameters.items())


class Session:
    """One connection to PostgreSQL, opened by `connect`. Every method that sends something raises `DatabaseError`."""

    def __init__(self, connection: Connection) -> None:
        self.raw = connection
        """The asyncpg connection, which Python migrations get."""
        self.parameters: Mapping[str, str] = {}
        """The run-time parameters that `configure` has set."""
        self._reset = _SQL["reset"]
        self._parameters_set = 0.0  # when all of them were last set, by the event loop's clock
        self.lock: HeldLock | None = None
        """The advisory lock that the session has acquired; None before that."""
        self.lock_pid: int | None = None
        """The backend that acquired the advisory lock; None while it is not held."""
        self._rolls_back = False
        self._on_notice: Callable[[str, str], None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""
        return self.raw.is_closed()

    @property
    def closed_at(self) -> Sequence[tuple[str, int]]:
        """The calls that closed the connection, innermost first; empty while it is open, or if the server ended it."""
        return self.raw.closed_at

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

    async def copy_in(self, statement: str, rows: str) -> None:
        """Run COPY ... FROM STDIN as it is written, with its rows in the format that it names."""
        with self._translate_errors():
            # The public copy_to_table writes the statement itself, and knows fewer options than PostgreSQL.
            # A buffer, since bytes would be taken for a path.
            await self.raw._copy_in(statement, memoryview(rows.encode()), None)  # type: ignore[attr-defined]  # noqa: SLF001

    @contextmanager
    def show_notices(self, on_notice: Callable[[str, str], None]) -> Iterator[None]:
        """Call `on_notice` with severity and text of every message that the server sends beside results."""
        if self.raw.log_listener is None:  # added once for the session: asyncpg inspects each listener
            self.raw.log_listener = self._show_notice
            self.raw.add_log_listener(self._show_notice)
        self._on_notice = on_notice
        try:
            yield
        finally:
            self._on_notice = None

    def _show_notice(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        if self._on_notice and not self._rolls_back:  # outside a transaction, our ROLLBACK causes a warning
            parts = (message.message, message.detail, message.hint)
            self._on_notice(message.severity_en or message.severity or "", " ".join(filter(None, parts)))

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """Run one statement and return its rows."""
        with self._translate_errors():
            return await self.raw.fetch(sql, *arguments)  # type: ignore[return-value]  # a Record has a Mapping's methods

    async def fetch_value(self, sql: str, *arguments: object) -> Any:
        """Run one statement and return the first column of its first row; None without a row."""
        with self._translate_errors():
            return await self.raw.fetchval(sql, *arguments)

    async def configure(self, parameters: Mapping[str, str]) -> Mapping[str, str]:
        """Set run-time parameters for the session, except those that this server version does not know.

        Returns:
            The parameters that the server knows and refuses, each with the server's reason; they are left out. A server
            on Windows, for instance, refuses `client_connection_check_interval`.
        """
        refused: dict[str, str] = {}
        await self.execute("reset all")  # a pooler may keep what an earlier client has set
        try:
            accepted = await self._set_parameters(parameters)
        except StatementFailed:  # one of them was refused, so none is set
            accepted = {}
            for name, value in parameters.items():
                try:
                    accepted |= await self._set_parameters({name: value})
                except StatementFailed as error:
                    refused[name] = str(error)
        self.parameters = {name: parameters[name] for name in accepted}
        changed = {name: value for name, value in self.parameters.items() if not accepted[name]}
        # RESET ALL restores the others. With hundreds of small migrations, the time of each further statement shows.
        self._reset = f"{_SQL['reset']};\n{_set_all(changed)}".rstrip(";\n")
        self._parameters_set = asyncio.get_running_loop().time()
        self.raw.reset_query = self.reset_statements(lock_is_held=False)
        return refused

    async def _set_parameters(self, parameters: Mapping[str, str]) -> dict[str, bool]:
        """Set parameters, and return those that the server knows, with whether each had its value already."""
        rows = await self.fetch(_SQL["configure"], list(parameters), list(parameters.values()))
        return {row["name"]: row["unchanged"] for row in rows}

    def refresh_parameters(self) -> str:
        """Return the statements to send before a migration, so that it has our parameters; empty where they are fresh.

        Only the server's configuration, when it is reloaded, can change a parameter that a reset does not set.
        """
        now = asyncio.get_running_loop().time()
        if now - self._parameters_set < _PARAMETERS_LIFETIME:
            return ""
        self._parameters_set = now
        return _set_all(self.parameters)

    def reset_statements(self, *, lock_is_held: bool) -> str:
        """Return the statements that make the session like new, except for our parameters and our advisory lock.

        Args:
            lock_is_held: Whether a statement before them in the same message fails when the lock is not held.
        """
        if self.lock is None:
            return self._reset
        unlock = self.lock.unlock_others_when_held if lock_is_held else self.lock.unlock_others
        return f"{self._reset};\n{unlock}"

    async def reset(self) -> None:
        """Make the session like new, in one round trip, except for our parameters and our advisory lock.

        Raises:
            ConnectionLost: It could not be reset, so it is closed.
        """
        self.raw.reset_query = self.reset_statements(lock_is_held=False)
        try:
            with self._translate_errors():
                await self.raw.reset()  # forgets the callbacks of listeners as well
        except StatementFailed as error:
            self.terminate()
            raise ConnectionLost(f"the session could not be reset: {error}") from error

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
        self._rolls_back = True
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                if not self.closed:
                    # Sent even when no transaction seems to be open: after a cancelled statement the server's state is
                    # not known here yet. Outside a transaction ROLLBACK is only a warning.
                    await self.raw.execute("rollback")
        except (*DRIVER_ERRORS, TimeoutError):
            self.terminate()
        finally:
            self._rolls_back = False

    async def _rollback_transaction(self, transaction: Transaction) -> None:
        if self.closed or not self.in_transaction:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await transaction.rollback()
        except (*DRIVER_ERRORS, TimeoutError):
            self.terminate()  # the server rolls back the transaction of a lost session

    async def close(self) -> None:
        """Close the connection with a Terminate message; without it when the server does not take it in time."""
        try:
            await self.raw.close(timeout=_CLOSE_TIMEOUT)
        except Exception:  # noqa: BLE001 - a server that speaks the protocol wrongly makes the driver raise anything
            self.raw.terminate()

    def terminate(self) -> None:
        """Close the socket at once."""
        self.raw.terminate()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            raise translate(error) from error
        except UnicodeDecodeError as error:
            # asyncpg reads messages as UTF-8 whatever `client_encoding` is, and has the rest of the answer skipped.
            raise MessageUnreadable(decode(error, self.raw.get_settings().client_encoding)) from error
        except asyncpg.InterfaceError as error:
            if str(error).startswith("the server expects"):  # a number of parameters other than the query's
                self.terminate()
                reason = describe(error).splitlines()[0]
                raise AnswerUnreadable(f"the server has not understood the query: {reason}") from error
            if not self.closed:
                raise  # a mistake of this program in using the driver
            raise ConnectionLost("the connection to the database is closed") from error
        except (asyncpg.InternalClientError, OSError) as error:
            # InternalClientError: the server closed the connection within a response, and asyncpg waits for the rest.
            self.terminate()
            raise ConnectionLost(f"the connection to the database broke: {describe(error)}") from error
        except Exception as error:
            # A decoder of the driver: OverflowError for a time beyond year 9999, struct.error for a malformed message.
            # Where in the protocol it stopped is not known.
            self.terminate()
            raise AnswerUnreadable(f"a value of the answer cannot be decoded ({type(error).__name__})") from error
