"""Opening a session: the first server that answers and is what the address asks for, over TLS as the address asks."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import urlencode

import asyncpg

from migrations.postgres.driver_errors import PROTOCOL_VIOLATION, decode, describe, translate
from migrations.postgres.driver_limits import bound_key_derivation
from migrations.postgres.errors import (
    DatabaseError,
    Misconfigured,
    NotReady,
    StatementFailed,
    Unreachable,
)
from migrations.postgres.protocol_guard import install as install_guard
from migrations.postgres.session import Connection, Session

if TYPE_CHECKING:
    import ssl

    from asyncpg.connect_utils import SessionAttribute

    from migrations.postgres.address import Address, Server, Tls

bound_key_derivation()
install_guard()


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
    target = address.target_session_attrs
    if writable and target in {"standby", "read-only", "prefer-standby"}:
        raise Misconfigured(
            f"{address} cannot be used: target_session_attrs (PGTARGETSESSIONATTRS) is {target}, and this command "
            "writes"
        )
    try:
        async with asyncio.timeout(timeout):
            session = Session(
                await _connect_first(address, timeout, application_name, "read-write" if writable else target)
            )
            _enable_keepalives(session.raw)
            if address.role is not None:
                await _check_role(session, address)
            return session
    except DatabaseError:
        raise
    except TimeoutError as error:
        raise Unreachable(f"{address} did not answer within {timeout:g} s") from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        if not writable:
            raise NotReady(f"{address}: no server is {target}, as target_session_attrs demands") from error
        raise NotReady(f"{address} takes no writes: it is a standby, or read-only") from error
    except Exception as error:
        raise _role_failure(error, address) or _failure(error, address) from error


async def _check_role(session: Session, address: Address) -> None:
    """Raise Misconfigured where a pooler has left out the run-time parameter `role`."""
    role = await session.fetch_value("select current_user::text")
    if role != address.role:
        await session.close()
        raise Misconfigured(
            f"{address}: expected to act as the role {address.role}, got {role}: a pooler before the server ignores "
            "the parameter; connect to the server itself"
        )


def _role_failure(error: Exception, address: Address) -> Misconfigured | None:
    """Return the error for a role that the session cannot act as; None for another error."""
    refused = isinstance(error, asyncpg.InvalidParameterValueError | asyncpg.InsufficientPrivilegeError)
    if not refused or not address.role or "role" not in str(error):
        return None
    return Misconfigured(
        f"{address}: {address.user} cannot act as the role {address.role}: {describe(error)}; name one that exists "
        f'and that {address.user} is a member of (GRANT "{address.role}" TO "{address.user}")'
    )


def _failure(error: Exception, address: Address) -> DatabaseError:
    """Return the error to raise for what the driver has raised while it connected."""
    match error:
        case asyncpg.PostgresError():
            failure = translate(error, f"{address}: ")
            # A run-time parameter of the address that the server, or a pooler before it, refuses.
            is_refused = type(failure) is StatementFailed or error.sqlstate == PROTOCOL_VIOLATION
            return Misconfigured(str(failure)) if is_refused else failure
        case UnicodeDecodeError():  # until the session has asked for UTF-8, the server writes in its own encoding
            return NotReady(f"{address} refuses the session: {decode(error)}")
        case asyncpg.InterfaceError() | ValueError():  # a refused certificate is a ValueError too
            return Misconfigured(f"{address} cannot be used: {describe(error)}")
        case OSError():
            if "rejected SSL upgrade" in str(error):
                return Misconfigured(f"{address} takes no TLS, which sslmode={address.tls.mode} demands")
            return Unreachable(f"{address} cannot be reached: {describe(error)}")
        case _:  # an answer that breaks the protocol may make the driver raise anything
            return Unreachable(f"{address} does not answer as PostgreSQL does: {type(error).__name__}: {error}")


async def _connect_first(address: Address, limit: float, application_name: str, target: str) -> Connection:
    """Connect to the first server that answers and has the attributes `target`, as `target_session_attrs` names them.

    As in libpq, a server that refuses the role or the database ends the search.
    """
    servers = list(address.servers)
    if address.shuffled:
        random.shuffle(servers)
    failure: Exception = asyncpg.TargetServerAttributeNotMatched(target)
    for attribute in ("standby", "any") if target == "prefer-standby" else (target,):
        for server in servers:
            try:
                # Every argument is passed: asyncpg fills omitted ones from the environment, not always as libpq does.
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
                    connection_class=Connection,
                    target_session_attrs=cast("SessionAttribute", attribute),
                    krbsrvname=address.kerberos_service,
                    gsslib="gssapi",
                )
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched) as error:
                if isinstance(error, ValueError):
                    raise  # a refused certificate, which is an OSError too
                failure = error
    raise failure


def _driver_ssl(tls: Tls, server: Server) -> ssl.SSLContext | Literal["allow", "prefer", False]:
    """Return the argument `ssl` of asyncpg: a string for the modes in which it may fall back from TLS, or to it."""
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
            f"the certificates of the database address cannot be used ({files}): {describe(error)}"
        ) from error


def _driver_dsn(tls: Tls) -> str | None:
    """Return a URL with the options that asyncpg takes only from a URL; None unless it makes the TLS context itself."""
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
