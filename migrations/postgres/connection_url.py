"""Connection URLs of libpq, JDBC, SQLAlchemy, Prisma and node-postgres, parsed into libpq's keywords.

Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

from __future__ import annotations

import re
from typing import NamedTuple

from migrations.postgres.parameters import (
    KEYWORDS,
    LEFT_OUT,
    NO_VERIFY,
    REFUSED,
    SSL_MODES,
    AddressError,
    AddressParameters,
    words,
)

_SCHEMES = words("postgresql postgres postgis pgsql psql pgx pgx5 ecto")
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?\Z", re.DOTALL)
_HIGHEST_PORT = 65535


class ConnectionUrl(NamedTuple):
    """What a URL says.

    Attributes:
        keywords: libpq's keywords, those of `REFUSED` included.
        settings: Run-time parameters of the session.
        schema: The schema that Prisma's `schema`, or JDBC's `currentSchema`, makes the default; None without either.
    """

    keywords: dict[str, str]
    settings: dict[str, str]
    schema: str | None


def parse_url(url: str, name: str = "the database URL") -> ConnectionUrl:
    """Parse a connection URL.

    Args:
        url: A URL as libpq, or one of the clients named above, reads it.
        name: The flag, variable or key that holds the URL, for messages.

    Raises:
        AddressError: The URL is invalid; every problem is listed, and none shows a part that may be a password.
    """
    url = url.strip()
    parser = UrlParser(name)
    if "=" in url and url.partition("=")[0].replace(" ", "").replace("_", "").isalnum():
        return parser.parse_keywords(url)
    if url[:1] in {'"', "'", "`"} or url[-1:] in {'"', "'", "`"}:
        raise AddressError(f"{name} has quotes around it, which are part of its value: remove them")
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "jdbc":
        parser.jdbc = True
        scheme, _, rest = rest.partition(":")
    product = scheme.lower().partition("+")[0]  # SQLAlchemy's postgresql+asyncpg
    if product not in _SCHEMES or not (parser.jdbc or rest.startswith("//")):
        parser.problems.append(f"{name} must begin with postgresql:// or postgres://")
    parser.parse(rest[2:] if rest.startswith("//") else f"/{rest.lstrip('/')}")
    return parser.result()


def port_problems(ports: str, name: str) -> list[str]:
    """Return what is wrong with a list of ports, separated by commas, of which each may be empty."""
    for port in ports.split(","):
        number = port.strip()
        if number and not (number.isascii() and number.isdigit() and 0 < int(number[:6]) <= _HIGHEST_PORT):
            return [f"{name}: the port must be a number from 1 to {_HIGHEST_PORT}"]
    return []


class UrlParser(AddressParameters):
    """The parts of one URL.

    Args:
        name: The flag, variable or key that holds the URL, for messages.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.schema: str | None = None

    def result(self) -> ConnectionUrl:
        """Return what was parsed.

        Raises:
            AddressError: There are problems.
        """
        if self.problems:
            raise AddressError(*self.problems)
        return ConnectionUrl(self.keywords, self.settings, self.schema)

    def parse_keywords(self, text: str) -> ConnectionUrl:
        """Parse libpq's form with keywords instead of a URL.

        Raises:
            AddressError: It is invalid; every problem is listed.
        """
        from migrations.postgres.conninfo import parse_conninfo  # noqa: PLC0415 - most addresses are URLs

        for key, value in parse_conninfo(text, self.name):
            self._take(key, value)
        self._apply_foreign()
        return self.result()

    def parse(self, rest: str) -> None:
        """Parse what follows the two slashes."""
        located, _, query = rest.partition("?")
        authority, _, path = located.partition("/")
        credentials, at, hosts = authority.rpartition("@")
        if "#" in rest or "@" in path or "@" in credentials or ("@" in query and not at and ":" in authority):
            self.problems.append(
                f"{self.name} has a '/', '?', '#' or '@' in its user or password: write it as %2F, %3F, %23 or %40"
            )
            hosts = ""
        user, _, password = credentials.partition(":")
        for keyword, text in (("user", user), ("password", password), ("dbname", path)):
            if text:
                self.keywords[keyword] = self._decode(text, keyword)
        self._parse_hosts(hosts)
        for pair in filter(None, query.split("&")):
            key, equals, value = pair.partition("=")
            if not equals:
                self.problems.append(f"the parameters of {self.name}, after '?', must be KEY=VALUE joined by '&'")
                break
            if self.jdbc:  # JDBC's URLs are form-encoded; in libpq's a plus is a plus
                value = value.replace("+", " ")
            key = self._decode(key, "a parameter's name")
            self._take(key, self._decode(value, key))
        self._apply_foreign()

    def _apply_foreign(self) -> None:
        if self.foreign:
            from migrations.postgres.client_parameters import apply_parameters  # noqa: PLC0415 - most URLs have none

            self.schema = apply_parameters(self)

    def _decode(self, text: str, part: str) -> str:
        if "%" not in text:
            return text
        if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
            self.problems.append(f"{self.name}: a '%' in {part} must be written as %25, if it begins no %XX")
            return ""
        from urllib.parse import unquote  # noqa: PLC0415 - few URLs need it

        try:
            return unquote(text, errors="strict")
        except UnicodeDecodeError:
            self.problems.append(f"{self.name}: {part} is not UTF-8 once its %XX are decoded")
            return ""

    def _parse_hosts(self, text: str) -> None:
        hosts, ports = [], []
        for part in text.split(","):
            match = _HOST.match(part)
            if match is None:
                self.problems.append(
                    f"a host of {self.name} cannot be read: HOST or HOST:PORT is expected, an IPv6 host in [brackets]"
                )
                return
            host = self._decode(match["host"], "the host")
            port = self._decode(match["port"] or "", "the port")
            if "$" in host or "{{" in host:
                self.problems.append(f"{self.name} has a placeholder in its host that was not replaced by its value")
            self.problems += port_problems(port.replace(",", " "), self.name)
            hosts.append(host[1:-1] if host.startswith("[") else host)
            ports.append(port)
        if any(hosts):
            self.keywords["host"] = ",".join(hosts)
        # As in libpq, several hosts without ports have the default port, whatever PGPORT is.
        if any(ports) or len(ports) > 1:
            self.keywords["port"] = ",".join(ports)

    def _take(self, key: str, value: str) -> None:
        if key in KEYWORDS or key in REFUSED:
            self.keywords[key] = value
            if key == "sslmode" and value not in {*SSL_MODES, NO_VERIFY, ""}:
                self.problems.append(f"sslmode must be one of {', '.join((*SSL_MODES, NO_VERIFY))}, got {value!r}")
        elif key not in LEFT_OUT:
            self.foreign.append((key, value))
