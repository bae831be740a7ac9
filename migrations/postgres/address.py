"""Where a database is and who we are there: read from a URL, an environment or a Secret, never shown with its password.

ValueError
└── AddressError    every problem of an address at once
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# Parameters that libpq acts on itself and asyncpg does not know: it would send them to the server, which refuses them.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_CLIENT_ONLY = frozenset(
    (
        "application_name",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "require_auth",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    )
)
# Parameters that name a file of the machine that connects. A Secret must not make our pod read its own files.
_FILES = frozenset(
    ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile", "service", "servicefile", "krbsrvname", "gsslib")
)
_LIBPQ = ("PGSERVICE", "PGHOST", "PGDATABASE", "PGUSER")
_DB = ("DB_HOST", "DB_NAME", "DB_USER")
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?\Z", re.DOTALL)
_HIGHEST_PORT = 65535


class AddressError(ValueError):
    """An address that cannot be used.

    Attributes:
        problems: Each problem in words, none of which shows a password.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Address:
    """Say how to connect to one database. Equal addresses reach the same place as the same role.

    Attributes:
        url: A PostgreSQL connection URI; what it leaves out comes from libpq's `PG*` variables and files.
        root_certificates: PEM of the authorities to trust, where it did not come as a file.
    """

    url: str = field(repr=False)
    root_certificates: str | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Host, port and database for a person to read; never a user or a password."""
        parsed = urlsplit(self.url)
        place = parsed.netloc.rpartition("@")[2] or dict(parse_qsl(parsed.query)).get("host", "")
        return (unquote(place) or "the server of the PG* variables") + unquote(parsed.path.rstrip("/"))

    @property
    def sslmode(self) -> str | None:
        """The `sslmode` that the address itself asks for."""
        return dict(parse_qsl(urlsplit(self.url).query)).get("sslmode")

    def __str__(self) -> str:
        return self.label

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read a connection URI.

        Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS

        Raises:
            AddressError: It cannot be read; every problem is listed.
        """
        parsed = _split(url.strip())
        problems = _problems(parsed)
        if problems:
            raise AddressError(*problems)
        kept = [
            (key, value) for key, value in parse_qsl(parsed.query, keep_blank_values=True) if key not in _CLIENT_ONLY
        ]
        query = f"?{urlencode(kept)}" if kept else ""
        return cls(f"postgresql://{parsed.netloc}{parsed.path}{query}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], flag: str | None = None) -> Self:
        """Find the address: the flag, `DATABASE_URL`, libpq's `PG*`, `DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD`.

        Args:
            environment: The process's environment.
            flag: Value of `--database-url` (or of its environment twin).

        Raises:
            AddressError: None of them is set, or the first that is set cannot be used.
        """
        url = flag or environment.get("DATABASE_URL")
        if url:
            return cls.from_url(url)
        if any(environment.get(name) for name in _LIBPQ):
            return cls._from_libpq(environment)
        if any(environment.get(name) for name in _DB):
            missing = [name for name in _DB if not environment.get(name)]
            if missing:
                raise AddressError(*(f"{name} is not set, although another DB_ variable is" for name in missing))
            return cls._from_parts(
                host=environment["DB_HOST"],
                port=environment.get("DB_PORT") or "5432",
                database=environment["DB_NAME"],
                user=environment["DB_USER"],
                password=environment.get("DB_PASSWORD"),
            )
        raise AddressError(
            "no database is named: give --database-url or DATABASE_URL (postgresql://USER:PASSWORD@HOST:5432/NAME), "
            "or libpq's PGHOST PGDATABASE PGUSER PGPASSWORD, or DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD"
        )

    @classmethod
    def from_secret(cls, secret: Mapping[str, str]) -> Self:
        """Read the decoded keys of a Secret: `url`, or `host port database username password sslmode`; `sslrootcert`.

        `sslrootcert` holds the PEM itself. Nothing is taken from our own environment or files.

        Raises:
            AddressError: Keys are missing or cannot be used; every problem is listed.
        """
        given = {key: value.rstrip("\r\n") if key == "password" else value.strip() for key, value in secret.items()}
        problems = _secret_problems(given)
        if problems:
            raise AddressError(*problems)
        certificates = given.get("sslrootcert") or None
        if given.get("url"):
            return cls(cls.from_url(given["url"]).url, certificates)
        parts = cls._from_parts(
            host=given["host"],
            port=given.get("port") or "5432",
            database=given["database"],
            user=given["username"],
            password=given["password"],
            sslmode=given.get("sslmode") or None,
        )
        return cls(parts.url, certificates)

    @classmethod
    def _from_libpq(cls, environment: Mapping[str, str]) -> Self:
        """Leave it to asyncpg, which reads the same variables and files; name the place for messages where we can."""
        host, database = environment.get("PGHOST", ""), environment.get("PGDATABASE", "")
        if environment.get("PGSERVICE") or not host or "/" in host or "," in host or ":" in host:
            return cls("postgresql://")
        port = environment.get("PGPORT")
        return cls.from_url(
            f"postgresql://{quote(host)}{f':{port}' if port else ''}{f'/{quote(database)}' if database else ''}"
        )

    @classmethod
    def _from_parts(
        cls, *, host: str, port: str, database: str, user: str, password: str | None, sslmode: str | None = None
    ) -> Self:
        secret = "" if password is None else f":{quote(password, safe='')}"
        where = f"[{host}]" if ":" in host and not host.startswith("[") else quote(host, safe="[]:,")
        query = f"?{urlencode({'sslmode': sslmode})}" if sslmode else ""
        return cls.from_url(
            f"postgresql://{quote(user, safe='')}{secret}@{where}:{port}/{quote(database, safe='')}{query}"
        )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # an IPv6 address without its bracket; the message names no part of the URL
        raise AddressError("the database URL cannot be read: an IPv6 host stands in [brackets]") from error


def _problems(parsed: SplitResult) -> list[str]:
    problems = []
    if parsed.scheme not in {"postgres", "postgresql"}:
        problems.append("the database URL must begin with postgresql:// or postgres://")
    if parsed.fragment or "@" in parsed.path:
        problems.append(
            "the database URL has a '/', '?', '#' or '@' in its user or password: write it as %2F, %3F, %23 or %40"
        )
    else:
        problems += _host_problems(parsed.netloc.rpartition("@")[2])
    try:
        parameters = dict(parse_qsl(parsed.query, keep_blank_values=True, strict_parsing=bool(parsed.query)))
    except ValueError:
        parameters = {}
        problems.append("the parameters of the database URL, after '?', must be KEY=VALUE joined by '&'")
    mode = parameters.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        problems.append(f"sslmode must be one of {', '.join(SSL_MODES)}, got {mode!r}")
    return problems


def _host_problems(hosts: str) -> list[str]:
    problems = []
    for place in hosts.split(","):
        match = _HOST.match(place)
        port = match["port"] if match else None
        if match is None:
            problems.append(
                "a host of the database URL cannot be read: HOST or HOST:PORT is expected, an IPv6 host in [brackets]"
            )
        elif port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= _HIGHEST_PORT):
            problems.append(f"the port must be a number from 1 to {_HIGHEST_PORT}")
    return problems


def _secret_problems(given: Mapping[str, str]) -> list[str]:
    problems = []
    certificates = given.get("sslrootcert")
    if certificates and "-----BEGIN CERTIFICATE-----" not in certificates:
        problems.append("key sslrootcert must hold the certificates themselves, in PEM, not the path of a file")
    if not given.get("url"):
        missing = [key for key in ("host", "database", "username", "password") if not given.get(key)]
        if missing:
            problems.append(
                f"the Secret needs the key url, or host, database, username and password; missing: {', '.join(missing)}"
            )
        return problems
    try:
        parsed = _split(given["url"])
    except AddressError as error:
        return [*problems, *error.problems]
    parameters = dict(parse_qsl(parsed.query))
    place = unquote(parsed.netloc.rpartition("@")[2] or parameters.get("host", ""))
    if not place or place.startswith("/"):
        problems.append("key url must name a host")
    if not (parsed.username or parameters.get("user")):
        problems.append("key url must name a user")
    if not (parsed.path.strip("/") or parameters.get("dbname") or parameters.get("database")):
        problems.append("key url must name a database")
    problems += [f"key url must not use {key}, which names a file" for key in sorted(_FILES & parameters.keys())]
    return problems
