"""Database addresses, read from a URL, the environment or a Secret. No message shows a password.

As in libpq, what a URL leaves open is filled from its service, then from the `PG*` variables, then from defaults, so
that `psql` with the same environment reaches the same database. What cannot be honoured is refused.
Source: https://www.postgresql.org/docs/current/libpq-connect.html, libpq-envars.html, libpq-pgservice.html

ValueError
└── AddressError    lists every problem of an address at once
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from migrations.postgres.connection_url import parse_url
from migrations.postgres.parameters import AddressError
from migrations.postgres.resolution import ConnectionPlan, Resolution, Server, Tls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrations.postgres.client_files import ClientFiles

__all__ = ["Address", "AddressError", "Server", "Tls"]

_HOST = re.compile(r"[\w.:%-]+\Z")
"""Matches what a Secret may name as a host: a name, or an IP address, with or without a zone."""
_LIBPQ_VARIABLES = ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGDATABASE", "PGUSER")
_DB_VARIABLES = {
    "DB_HOST": "host",
    "DB_PORT": "port",
    "DB_NAME": "dbname",
    "DB_USER": "user",
    "DB_PASSWORD": "password",
}


class Address(ConnectionPlan):
    """How to connect to one database. Equal addresses lead to the same database and the same role."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Address({self.label!r})"

    @property
    def label(self) -> str:
        """Host, port and database, for messages; without user and password."""
        hosts = (f"[{name}]" if ":" in name and name[0] != "/" else name for _, _, name, _ in self.servers)
        return ",".join(f"{host}:{server.port}" for host, server in zip(hosts, self.servers, strict=True)) + (
            f"/{self.database}"
        )

    def __str__(self) -> str:
        return self.label

    @property
    def role(self) -> str | None:
        """The role that the session acts as, where it is not the one that connects."""
        return dict(self.settings).get("role")

    @property
    def unverified(self) -> bool:
        """Whether a server is on another machine and `sslmode` is allow or prefer, so that any machine could answer."""
        remote = any(not _is_local(server.host) for server in self.servers)
        return remote and self.tls.mode in {"allow", "prefer"}

    def acting_as(self, role: str) -> Self:
        """Return the address whose sessions begin with SET ROLE, and return to it at each RESET ROLE."""
        return self._replace(settings=tuple(sorted({**dict(self.settings), "role": role}.items())))

    @classmethod
    def from_url(
        cls,
        url: str,
        environment: Mapping[str, str] | None = None,
        files: ClientFiles | None = None,
        name: str = "the database URL",
    ) -> Self:
        """Return the address of a connection URL.

        Args:
            url: A URL as `connection_url` describes it.
            environment: The `PG*` variables that fill what the URL leaves open; none without it.
            files: The files of this machine that fill the rest; none without it.
            name: The flag or variable that holds the URL, for messages.

        Raises:
            AddressError: The URL is invalid or incomplete; every problem is listed.
        """
        parsed = parse_url(url, name)
        origins = {keyword: f"{keyword} in {name}" for keyword in parsed.keywords}
        resolution = Resolution(parsed.keywords, origins, environment or {}, files)
        resolution.settings.update(parsed.settings)
        return cls(*resolution.resolve(parsed.schema))

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], flag: str | None = None, files: ClientFiles | None = None
    ) -> Self:
        """Return the first address that is set: the flag, `DATABASE_URL`, `PG*`, or the `DB_*` variables.

        The `DB_*` variables are `DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD`, of which port and password are optional.

        Args:
            environment: The environment variables of the process.
            flag: Value of `--database-url`, or of the variable that stands for it.
            files: The files of this machine.

        Raises:
            AddressError: No address is set, or the first that is set is invalid.
        """
        url = flag or environment.get("DATABASE_URL")
        if url:
            names = [name for name in ("LEDGERGATE_DATABASE_URL", "DATABASE_URL") if environment.get(name) == url]
            return cls.from_url(url, environment, files, names[0] if names else "--database-url")
        if any(environment.get(name) for name in _LIBPQ_VARIABLES):
            return cls(*Resolution({}, {}, environment, files).resolve())
        if any(environment.get(name) for name in ("DB_HOST", "DB_NAME", "DB_USER")):
            missing = [name for name in ("DB_HOST", "DB_NAME", "DB_USER") if not environment.get(name)]
            if missing:
                raise AddressError(*(f"{name} is not set, although another DB_ variable is" for name in missing))
            keywords = {key: environment[name] for name, key in _DB_VARIABLES.items() if environment.get(name)}
            origins = {key: name for name, key in _DB_VARIABLES.items()}
            return cls(*Resolution({"port": "5432", **keywords}, origins, environment, files).resolve())
        raise AddressError(
            "no database is named: set --database-url or DATABASE_URL (postgresql://USER:PASSWORD@HOST:5432/NAME), "
            "or libpq's PGHOST PGDATABASE PGUSER PGPASSWORD, or DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD"
        )

    @classmethod
    def from_secret(cls, secret: Mapping[str, str]) -> Self:
        """Return the address in the decoded keys of a Secret, of which `secret_keys` knows the usual ones.

        Neither the environment nor a file of this process fills in anything.

        Raises:
            AddressError: Keys are missing or invalid; every problem is listed.
        """
        from migrations.postgres.secret_keys import parse_secret  # noqa: PLC0415 - `migrate` reads no Secret

        parsed, certificates = parse_secret(secret)
        origins = {keyword: f"{keyword} of the Secret" for keyword in parsed.keywords}
        resolution = Resolution(parsed.keywords, origins, {}, None, certificates)
        resolution.settings.update(parsed.settings)
        address = cls(*resolution.resolve(parsed.schema))
        # The resolved hosts are checked, not the text of the keys: brackets, blanks, lists and parameters could hide a
        # socket from a check of the text.
        if not all(_HOST.match(server.host) for server in address.servers):
            raise AddressError("the Secret must name a host, not a Unix socket of ledgergate's own pod")
        return address


def _is_local(host: str) -> bool:
    return host.startswith(("/", "127.")) or host in {"localhost", "::1"}
