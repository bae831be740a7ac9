"""The parameters of an address: which keywords of libpq are used, and what has been read of one address.

Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS

ValueError
└── AddressError    lists every problem of an address at once
"""

from __future__ import annotations

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
NO_VERIFY = "no-verify"
"""The `sslmode` of node-postgres that insists on TLS and verifies nothing, even where a root certificate is."""


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


KEYWORDS = words(
    "host hostaddr port dbname user password passfile service servicefile options target_session_attrs "
    "load_balance_hosts sslmode sslnegotiation sslcert sslkey sslpassword sslrootcert sslcrl sslcertmode "
    "ssl_min_protocol_version ssl_max_protocol_version krbsrvname gsslib"
)
"""Keywords of libpq that are used."""
LEFT_OUT = words(
    "application_name fallback_application_name client_encoding connect_timeout keepalives keepalives_count "
    "keepalives_idle keepalives_interval tcp_user_timeout sslcompression max_protocol_version"
)
"""Keywords of libpq that change neither the database nor what protects the connection: ledgergate sets its own."""
REFUSED: dict[str, tuple[str, ...]] = {
    "channel_binding": ("prefer", "disable"),
    "gssencmode": ("prefer", "disable"),
    "gssdelegation": ("0",),
    "min_protocol_version": ("3.0",),
    "oauth_client_id": (),
    "oauth_client_secret": (),
    "oauth_issuer": (),
    "oauth_scope": (),
    "replication": ("false", "off", "no", "0"),
    "require_auth": (),
    "requirepeer": (),
    "scram_client_key": (),
    "scram_server_key": (),
    "sslcrldir": (),
    "sslkeylogfile": (),
    "sslsni": ("1",),
}
"""Keywords of libpq that the driver cannot honour, each with the values that are accepted, as they demand nothing."""


class AddressError(ValueError):
    """An address that cannot be used.

    Attributes:
        problems: One message for each problem, none with a password.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class AddressParameters:
    """What has been read of one address, and what is wrong with it.

    Args:
        name: The flag, variable or key that holds the address, for messages.

    Attributes:
        jdbc: Whether it is a URL of JDBC, which decodes and checks in other ways.
        problems: One message for each problem, none with a password.
        keywords: libpq's keywords, those of `REFUSED` included.
        settings: Run-time parameters of the session.
        foreign: Names and values of the parameters that are not libpq's, in order.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.jdbc = False
        self.problems: list[str] = []
        self.keywords: dict[str, str] = {}
        self.settings: dict[str, str] = {}
        self.foreign: list[tuple[str, str]] = []
