"""TLS for the admission server."""

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

from certs.pki import KeyPair, Unreadable

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

LOWEST = "1.3"
"""Spoken by every API server that is supported: Go has it since 1.12."""


def server_context(minimum: str = LOWEST, client_authority: str | None = None) -> ssl.SSLContext:
    """Return a server context without a certificate, for HTTP/1.1.

    Only HTTP/1.1 is offered: the API server calls webhooks with nothing else (its util/webhook/client.go).

    Args:
        minimum: the oldest version of TLS that is spoken, one of `VERSIONS`.
        client_authority: PEM of the authorities that sign the clients' certificates; None to ask for no certificate.

    Raises:
        Unreadable: the authorities are no certificates in PEM format.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[minimum]
    context.set_alpn_protocols(["http/1.1"])
    if client_authority is not None:
        try:
            context.load_verify_locations(cadata=client_authority)
        except (ssl.SSLError, ValueError) as error:
            raise Unreadable("the authority of client certificates is no certificate in PEM format") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def serve(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Have a context present this certificate from the next handshake on; open connections keep theirs.

    Call it on the thread that accepts connections: OpenSSL replaces the certificate and the key one after the other,
    and a handshake in between would fail.
    """
    # Python's ssl reads a key only from a file. It exists for a millisecond, in a directory with mode 0700.
    with TemporaryDirectory(prefix="ledgergate-") as directory:
        chain = Path(directory, "chain.pem")
        chain.touch(mode=0o600)
        chain.write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(chain)
