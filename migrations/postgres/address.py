"""Database addresses, read from a URL, the environment or a Secret. No message shows a password.

ValueError
└── AddressError    lists every problem of an address at once
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

# Parameters that libpq handles in the client. asyncpg does not know them and would send them to the server as run-time
# parameters, which the server refuses.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_CLIENT_PARAMETERS = frozenset(
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
# Parameters that name a file (or a Kerberos service) of the connecting machine. A Secret is written by a tenant, and
# must not make the controller read files of its own pod.
_FILE_PARAMETERS = frozenset(
    ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile", "service", "servicefile", "krbsrvname", "gsslib")
)
_LIBPQ_VARIABLES = ("PGSERVICE", "PGHOST", "PGDATABASE", "PGUSER")
_DB_VARIABLES = ("DB_HOST", "DB_NAME", "DB_USER")
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?\Z", re.DOTALL)
_HIGHEST_PORT = 65535


class AddressError(ValueError):
    """An address that cannot be used.

    Attributes:
        problems: One message for each problem, none with a password.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Address:
    """How to connect to one database. Equal addresses lead to the same database and the same role.

    Attributes:
        url: A PostgreSQL connection URI; asyncpg takes what is missing from libpq's `PG*` variables and files.
        root_certificates: PEM text of the authorities to trust; None where the URL or the environment names a file.
    """

    url: str = field(repr=False)
    root_certificates: str | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Host, port and database, for messages; without user and password."""
        parsed = urlsplit(self.url)
        host = parsed.netloc.rpartition("@")[2] or dict(parse_qsl(parsed.query)).get("host", "")
        return (unquote(host) or "the server of the PG* variables") + unquote(parsed.path.rstrip("/"))

    @property
    def sslmode(self) -> str | None:
        """The `sslmode` of the URL; None where it has none."""
        return dict(parse_qsl(urlsplit(self.url).query)).get("sslmode")

    def __str__(self) -> str:
        return self.label

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Parse a connection URI, and drop the parameters that only libpq understands.

        Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS

        Raises:
            AddressError: The URI is invalid; every problem is listed.
        """
        parsed = _split(url.strip())
        problems = _url_problems(parsed)
        if problems:
            raise AddressError(*problems)
        parameters = [
            (key, value)
            for key, value in parse_qsl(parsed.query, keep_blank_values=True)
            if key not in _CLIENT_PARAMETERS
        ]
        query = f"?{urlencode(parameters)}" if parameters else ""
        return cls(f"postgresql://{parsed.netloc}{parsed.path}{query}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], flag: str | None = None) -> Self:
        """Return the first address that is set: the flag, `DATABASE_URL`, `PG*`, or the `DB_*` variables.

        The `DB_*` variables are `DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD`, of which port and password are optional.

        Args:
            environment: The environment variables of the process.
            flag: Value of `--database-url`, or of the variable that stands for it.

        Raises:
            AddressError: No address is set, or the first that is set is invalid.
        """
        url = flag or environment.get("DATABASE_URL")
        if url:
            return cls.from_url(url)
        if any(environment.get(name) for name in _LIBPQ_VARIABLES):
            return cls._from_libpq(environment)
        if any(environment.get(name) for name in _DB_VARIABLES):
            missing = [name for name in _DB_VARIABLES if not environment.get(name)]
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
            "no database is named: set --database-url or DATABASE_URL (postgresql://USER:PASSWORD@HOST:5432/NAME), "
            "or libpq's PGHOST PGDATABASE PGUSER PGPASSWORD, or DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD"
        )

    @classmethod
    def from_secret(cls, secret: Mapping[str, str]) -> Self:
        """Read an address from the decoded keys of a Secret.

        The keys are `url`, or `host port database username password sslmode`; and `sslrootcert`, which holds the PEM
        text itself. User, host and database must be given, so that the environment of this process fills in nothing.

        Raises:
            AddressError: Keys are missing or invalid; every problem is listed.
        """
        values = {key: value.rstrip("\r\n") if key == "password" else value.strip() for key, value in secret.items()}
        problems = _secret_problems(values)
        if problems:
            raise AddressError(*problems)
        certificates = values.get("sslrootcert") or None
        if values.get("url"):
            return cls(cls.from_url(values["url"]).url, certificates)
        parts = cls._from_parts(
            host=values["host"],
            port=values.get("port") or "5432",
            database=values["database"],
            user=values["username"],
            password=values["password"],
            sslmode=values.get("sslmode") or None,
        )
        return cls(parts.url, certificates)

    @classmethod
    def _from_libpq(cls, environment: Mapping[str, str]) -> Self:
        """Leave the rest to asyncpg, which reads the same variables and files as libpq.

        Host, port and database are put into the URL where they are simple, so that messages can name them.
        """
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
        password_part = "" if password is None else f":{quote(password, safe='')}"
        host_part = f"[{host}]" if ":" in host and not host.startswith("[") else quote(host, safe="[]:,")
        query = f"?{urlencode({'sslmode': sslmode})}" if sslmode else ""
        return cls.from_url(
            f"postgresql://{quote(user, safe='')}{password_part}@{host_part}:{port}/{quote(database, safe='')}{query}"
        )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # a bracket is missing; urlsplit's own message could show a password
        raise AddressError("the database URL cannot be read: an IPv6 host stands in [brackets]") from error


def _url_problems(parsed: SplitResult) -> list[str]:
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
    for host in hosts.split(","):
        match = _HOST.match(host)
        port = match["port"] if match else None
        if match is None:
            problems.append(
                "a host of the database URL cannot be read: HOST or HOST:PORT is expected, an IPv6 host in [brackets]"
            )
        elif port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= _HIGHEST_PORT):
            problems.append(f"the port must be a number from 1 to {_HIGHEST_PORT}")
    return problems


def _secret_problems(values: Mapping[str, str]) -> list[str]:
    problems = []
    certificates = values.get("sslrootcert")
    if certificates and "-----BEGIN CERTIFICATE-----" not in certificates:
        problems.append("key sslrootcert must hold the certificates themselves, in PEM, not the path of a file")
    if not values.get("url"):
        missing = [key for key in ("host", "database", "username", "password") if not values.get(key)]
        if missing:
            problems.append(
                f"the Secret needs the key url, or host, database, username and password; missing: {', '.join(missing)}"
            )
        return problems
    try:
        parsed = _split(values["url"])
    except AddressError as error:
        return [*problems, *error.problems]
    parameters = dict(parse_qsl(parsed.query))
    host = unquote(parsed.netloc.rpartition("@")[2] or parameters.get("host", ""))
    if not host or host.startswith("/"):  # a path is a Unix socket of this pod
        problems.append("key url must name a host")
    if not (parsed.username or parameters.get("user")):
        problems.append("key url must name a user")
    if not (parsed.path.strip("/") or parameters.get("dbname") or parameters.get("database")):
        problems.append("key url must name a database")
    problems += [
        f"key url must not use {key}, which names a file" for key in sorted(_FILE_PARAMETERS & parameters.keys())
    ]
    return problems
