"""The CA Secret: which key holds what.

tls.crt, tls.key   the authority that signs now (the names of a `kubernetes.io/tls` Secret)
ca.crt             the bundle that clients trust: that authority, and any older one that is still alive
"""

from collections.abc import Mapping
from dataclasses import dataclass

from certs.authority import KeyPair

CERTIFICATE = "tls.crt"
KEY = "tls.key"
BUNDLE = "ca.crt"


@dataclass(frozen=True, slots=True)
class Authority:
    """The content of the CA Secret: what signs, and what is trusted (PEM)."""

    pair: KeyPair
    bundle: bytes

    @classmethod
    def from_secret(cls, data: Mapping[str, bytes]) -> "Authority":
        """Take a Secret's decoded data as it stands: a missing key is an empty text, which nothing can read."""
        return cls(KeyPair(data.get(CERTIFICATE, b""), data.get(KEY, b"")), data.get(BUNDLE, b""))

    def to_secret(self) -> dict[str, bytes]:
        """Return the Secret's data, not yet base64."""
        return {CERTIFICATE: self.pair.certificate, KEY: self.pair.key, BUNDLE: self.bundle}
