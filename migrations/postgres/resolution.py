"""The layers of a connection's keywords, resolved as libpq resolves them.

Source: https://www.postgresql.org/docs/current/libpq-connect.html, libpq-envars.html, libpq-pgservice.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from migrations.postgres.connection_url import port_problems
from migrations.postgres.parameters import NO_VERIFY, REFUSED, SSL_MODES, AddressError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrations.postgres.client_files import ClientFiles

_VARIABLES = {
    "PGAPPNAME": "application_name",
    "PGCHANNELBINDING": "channel_binding",
    "PGDATABASE": "dbname",
    "PGGSSDELEGATION": "gssdelegation",
    "PGGSSENCMODE": "gssencmode",
    "PGGSSLIB": "gsslib",
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGKRBSRVNAME": "krbsrvname",
    "PGLOADBALANCEHOSTS": "load_balance_hosts",
    "PGMINPROTOCOLVERSION": "min_protocol_version",
    "PGOPTIONS": "options",
    "PGPASSFILE": "passfile",
    "PGPASSWORD": "password",
    "PGPORT": "port",
    "PGREQUIREAUTH": "require_auth",
    "PGREQUIREPEER": "requirepeer",
    "PGSSLCERT": "sslcert",
    "PGSSLCERTMODE": "sslcertmode",
    "PGSSLCRL": "sslcrl",
    "PGSSLCRLDIR": "sslcrldir",
    "PGSSLKEY": "sslkey",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMODE": "sslmode",
    "PGSSLNEGOTIATION": "sslnegotiation",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLSNI": "sslsni",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGUSER": "user",
}
_SESSION_VARIABLES = {"PGDATESTYLE": "datestyle", "PGGEQO": "geqo", "PGTZ": "timezone"}
_SOCKET_DIRECTORIES = ("/var/run/postgresql", "/tmp")  # noqa: S108 - libpq's own, of Debian and of the sources
_CHOICES = {
    "load_balance_hosts": ("disable", "random"),
    "sslcertmode": ("allow", "disable"),
    "sslmode": (*SSL_MODES, NO_VERIFY),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
_DEFAULT_PORT = 5432


class Server(NamedTuple):
    """One server of an address.

    Attributes:
        host: Where to connect: a name, an IP address, or the directory of a Unix socket.
        port: Port of the server.
        name: The host that a certificate must name, and that messages show.
        password: Password of the role on this server; empty for none.
    """

    host: str
    port: int
    name: str
    password: str


class Tls(NamedTuple):
    """How to protect a connection over TCP; file paths are empty where no file is named.

    Attributes:
        mode: libpq's `sslmode`, or `no-verify`.
        root: File of the root certificates, or `system` for those of the operating system.
        certificates: Root certificates as PEM text, from a Secret.
        cert: File of the client's certificate.
        key: File of its key.
        password: Password of the key.
        crl: File of revoked certificates.
        minimum: Oldest version of TLS.
        maximum: Newest version of TLS; empty for the newest known.
        direct: Whether TLS starts without asking the server first.
    """

    mode: str
    root: str = ""
    certificates: str = ""
    cert: str = ""
    key: str = ""
    password: str = ""
    crl: str = ""
    minimum: str = "TLSv1.2"
    maximum: str = ""
    direct: bool = False


class ConnectionPlan(NamedTuple):
    """Which database to connect to, and how.

    A named tuple, because creating its class takes a quarter of a dataclass's time, and every pod's start waits for it.

    Attributes:
        servers: The servers to try, in order.
        user: The role.
        database: Name of the database.
        settings: Run-time parameters of the session, with libpq's `options`.
        tls: How to protect the connection.
        target_session_attrs: Which kind of server to use, as in libpq.
        shuffled: Whether to try the servers in random order.
        kerberos_service: Name of the server's Kerberos service.
        schema: The schema that the URL makes the default, as Prisma's `schema` does; None without one.
    """

    servers: tuple[Server, ...]
    user: str
    database: str
    settings: tuple[tuple[str, str], ...]
    tls: Tls
    target_session_attrs: str
    shuffled: bool
    kerberos_service: str
    schema: str | None


class Resolution:
    """The keywords of one connection, each from the first layer that sets it, and their problems.

    An empty value is set, as in libpq: it hides the layers below and means the default.
    """

    def __init__(
        self,
        keywords: Mapping[str, str],
        origins: Mapping[str, str],
        environment: Mapping[str, str],
        files: ClientFiles | None,
        certificates: str = "",
    ) -> None:
        self.values = dict(keywords)
        self.origins = dict(origins)
        self.settings = {key: environment[name] for name, key in _SESSION_VARIABLES.items() if environment.get(name)}
        self.problems: list[str] = []
        self._files = files
        self._certificates = certificates
        self._home = environment.get("HOME") or (files and files.home()) or None
        service = self.values.get("service") or environment.get("PGSERVICE")
        if service and files:
            from migrations.postgres.service_file import read_service  # noqa: PLC0415 - few connections use one

            file = self.values.get("servicefile")
            found = read_service(service, environment, files, file=file, home=self._home)
            self._fill(found, {key: f"{key} of service {service}" for key in found})
        given = {key: environment[name] for name, key in _VARIABLES.items() if name in environment}
        if environment.get("PGREQUIRESSL", "").startswith("1"):
            given.setdefault("sslmode", "require")
        self._fill(given, {key: name for name, key in _VARIABLES.items()})

    def _fill(self, layer: Mapping[str, str], origins: Mapping[str, str]) -> None:
        for key, value in layer.items():
            if key not in self.values:
                self.values[key] = value
                self.origins[key] = origins[key]

    def resolve(self, schema: str | None = None) -> ConnectionPlan:
        """Return what to connect with.

        Raises:
            AddressError: A value is invalid, missing or cannot be honoured; every problem is listed.
        """
        self._check_values()
        user = self._value("user") or (self._files and self._files.user_name()) or ""
        if not user:
            self.problems.append("no user is named: name one in the database URL, or set PGUSER")
        database = self._value("dbname") or user
        servers = self._servers(database, user)
        tls = self._tls(any(not server.host.startswith("/") for server in servers))
        if self.problems:
            raise AddressError(*self.problems)
        if self._value("options"):
            self.settings["options"] = self._value("options")
        return ConnectionPlan(
            servers,
            user,
            database,
            tuple(sorted(self.settings.items())),
            tls,
            self._value("target_session_attrs") or "any",
            self._value("load_balance_hosts") == "random",
            self._value("krbsrvname") or "postgres",
            schema,
        )

    def _value(self, keyword: str) -> str:
        return self.values.get(keyword, "")

    def _name(self, keyword: str) -> str:
        return self.origins.get(keyword, keyword)

    def _check_values(self) -> None:
        for keyword, value in self.values.items():
            name = self._name(keyword)
            choices = _CHOICES.get(keyword)
            if value and choices and value not in choices:
                self.problems.append(f"{name} must be one of {', '.join(choices)}, got {value!r}")
            if value and keyword in REFUSED and value not in REFUSED[keyword]:
                self.problems.append(
                    f"{name} is set, which ledgergate cannot honour: remove it, or set another protection "
                    "(sslmode=verify-full)"
                )
            if keyword in {"host", "hostaddr", "port", "user", "dbname"} and value[:1] in {'"', "'"}:
                self.problems.append(f"{name} has quotes around it, which are part of its value: remove them")

    def _servers(self, database: str, user: str) -> tuple[Server, ...]:
        hosts, addresses = self._list("host"), self._list("hostaddr")
        if hosts and addresses and len(hosts) != len(addresses):
            self.problems.append(f"{self._name('hostaddr')} has {len(addresses)} addresses for {len(hosts)} hosts")
            return ()
        count = len(addresses or hosts) or 1
        ports = self._ports(count)
        if ports is None:
            return ()
        found = zip(hosts or [""] * count, addresses or [""] * count, ports, strict=True)
        return tuple(self._server(host, address, port, database, user) for host, address, port in found)

    def _list(self, keyword: str) -> list[str]:
        text = self._value(keyword)
        return [part.strip() for part in text.split(",")] if text else []

    def _ports(self, count: int) -> list[int] | None:
        text, name = self._value("port"), self._name("port")
        if text.startswith(("tcp://", "udp://")):
            self.problems.append(
                f"{name} is {text}, a variable that Kubernetes sets for a Service of this name: set {name} in the "
                "container to the port's number, or set enableServiceLinks: false in the pod"
            )
            return None
        problems = port_problems(text, name)
        self.problems += problems
        ports = [part.strip() for part in text.split(",")]
        if len(ports) not in {1, count}:
            self.problems.append(f"{name} has {len(ports)} ports for {count} hosts")
        if problems or len(ports) not in {1, count}:
            return None
        return [int(port or _DEFAULT_PORT) for port in (ports * count if len(ports) == 1 else ports)]

    def _server(self, host: str, address: str, port: int, database: str, user: str) -> Server:
        named = self._name("host")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if address:
            self._check_ip(address)
        elif host.startswith("@"):
            self.problems.append(f"{named} names an abstract Unix socket, which ledgergate cannot use")
        elif host.count(":") == 1:
            self.problems.append(f"{named} has a port: write the port into port, PGPORT or DB_PORT")
        elif host and not host.startswith("/") and ("/" in host or any(map(str.isspace, host))):
            self.problems.append(
                f"{named} is no host name: a name, an IP address or the directory of a socket is expected"
            )
        names = [host or address]
        if not host and not address:
            host = self._socket_directory(port)
            names = [host, "localhost"]
        elif host in _SOCKET_DIRECTORIES:
            names.append("localhost")
        password = self._value("password") or self._stored_password(names, port, database, user)
        return Server(address or host, port, host or address, password)

    def _check_ip(self, address: str) -> None:
        from ipaddress import ip_address  # noqa: PLC0415 - few connections name an address beside the host

        try:
            ip_address(address)
        except ValueError:
            self.problems.append(f"{self._name('hostaddr')} must be an IP address")

    def _socket_directory(self, port: int) -> str:
        """Return the directory of the default socket, which libpq has from its build."""
        if self._files is None:
            self.problems.append("no host is named")
            return ""
        socket = f"/.s.PGSQL.{port}"
        found = [directory for directory in _SOCKET_DIRECTORIES if self._files.exists(directory + socket)]
        if len(found) > 1:
            self.problems.append(
                f"no host is named, and there are servers at {' and '.join(found)}: set PGHOST to one of them"
            )
        return found[0] if found else _SOCKET_DIRECTORIES[0]

    def _stored_password(self, names: list[str], port: int, database: str, user: str) -> str:
        if self._files is None:
            return ""
        path = self._value("passfile") or (f"{self._home}/.pgpass" if self._home else "")
        text = self._files.read(path) if path else None
        if text is None:
            return ""
        from migrations.postgres.password_file import find_password  # noqa: PLC0415 - most passwords come otherwise

        password = find_password(text, names, str(port), database, user)
        if password and not self._files.is_private(path):
            self.problems.append(
                f"the password file {path} ({self._name('passfile')}) has group or world access, so libpq ignores it: "
                f"chmod 600 {path}"
            )
        return password or ""

    def _tls(self, needed: bool) -> Tls:
        root = self._value("sslrootcert")
        mode = self._value("sslmode") or ("verify-full" if root == "system" or self._certificates else "prefer")
        if not needed or mode == "disable":
            return Tls("disable")
        if root == "system" and mode in {"allow", "prefer", "require"}:
            self.problems.append(f"{self._name('sslrootcert')} is system, which needs sslmode=verify-full, got {mode}")
        verified = mode in {"require", "verify-ca", "verify-full"}
        root = self._root(mode, root)
        cert, key = self._client_certificate()
        crl = (self._value("sslcrl") or self._default_file("root.crl")) if verified else ""
        for keyword, path in (("sslrootcert", root), ("sslcert", cert), ("sslkey", key), ("sslcrl", crl)):
            if path and path != "system" and keyword in self.values and self._files and not self._files.exists(path):
                self.problems.append(f"{self._name(keyword)}: there is no file {path}")
        direct = self._value("sslnegotiation") == "direct"
        if direct and mode in {"allow", "prefer"}:
            self.problems.append(f"{self._name('sslnegotiation')} is direct, which needs sslmode=require, got {mode}")
        return Tls(
            mode,
            root,
            self._certificates if verified else "",
            cert,
            key,
            self._value("sslpassword"),
            crl,
            self._value("ssl_min_protocol_version") or "TLSv1.2",
            self._value("ssl_max_protocol_version"),
            direct,
        )

    def _root(self, mode: str, root: str) -> str:
        if mode == NO_VERIFY or root or self._certificates or mode not in {"require", "verify-ca", "verify-full"}:
            return "" if mode == NO_VERIFY else root
        root = self._default_file("root.crt")
        if not root and mode != "require":
            remedy = (
                "the key sslrootcert to their text"
                if self._files is None
                else "sslrootcert (PGSSLROOTCERT) to their file"
            )
            self.problems.append(f"sslmode={mode} needs root certificates: set {remedy}, or to system")
        return root

    def _client_certificate(self) -> tuple[str, str]:
        if self._value("sslcertmode") == "disable":
            return "", ""
        cert = self._value("sslcert") or self._default_file("postgresql.crt")
        if not cert:
            return "", ""
        key = self._value("sslkey") or self._default_file("postgresql.key")
        if not key:
            self.problems.append(f"{self._name('sslcert')} needs a key: set sslkey (PGSSLKEY) to its file")
        return cert, key

    def _default_file(self, name: str) -> str:
        """Return the path of a file in ~/.postgresql; empty where it is absent or no files of the machine are used."""
        path = f"{self._home}/.postgresql/{name}"
        return path if self._home and self._files and self._files.exists(path) else ""
