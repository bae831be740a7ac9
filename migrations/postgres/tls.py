"""TLS contexts that verify what libpq's `sslmode` promises.

Source: https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrations.postgres.resolution import Tls


class _NamedContext(ssl.SSLContext):
    """A context that expects a given host name, wherever the connection leads (libpq's `hostaddr`)."""

    expected_name: str | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap as the base class does, but expect `expected_name` instead of the host name that the driver passes."""
        return super().wrap_bio(incoming, outgoing, server_side, self.expected_name or server_hostname, session)


def client_context(tls: Tls, name: str) -> ssl.SSLContext:
    """Return the context for a mode that insists on TLS.

    As in libpq, `require` with root certificates verifies the authority, as `verify-ca` does.

    Args:
        tls: How to protect the connection.
        name: The host that the server's certificate must name.

    Raises:
        OSError: A file cannot be read, or holds no certificate or key.
    """
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.expected_name = name
    context.check_hostname = tls.mode == "verify-full"
    context.minimum_version = _version(tls.minimum)
    if tls.maximum:
        context.maximum_version = _version(tls.maximum)
    if tls.certificates:
        context.load_verify_locations(cadata=tls.certificates)
    elif tls.root == "system":
        context.load_default_certs()
    elif tls.root:
        context.load_verify_locations(cafile=tls.root)
    else:
        context.verify_mode = ssl.CERT_NONE
    if tls.crl:
        context.load_verify_locations(cafile=tls.crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key, tls.password)
    context.set_alpn_protocols(["postgresql"])  # PostgreSQL 17 requires it for direct negotiation
    return context


def _version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]
