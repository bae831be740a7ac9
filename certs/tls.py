"""TLS for the admission server."""

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

from certs.pki import KeyPair


def server_context() -> ssl.SSLContext:
    """Return a server context without a certificate: TLS 1.2 or newer, HTTP/1.1.

    Only HTTP/1.1 is offered: the API server calls webhooks with nothing else (its util/webhook/client.go).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
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
