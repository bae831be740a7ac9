"""The CA Secret: which key holds what, and how it is stored.

tls.crt, tls.key   the authority that signs now (the names of a `kubernetes.io/tls` Secret)
ca.crt             the bundle that clients trust: that authority, and any older one that has not expired

CertificateError (`certs.pki`)
├── Unavailable     the store or the publisher cannot be reached now; the next refresh tries again
└── Contended       others kept changing the Secret while it was being written
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from certs.pki import CertificateError, KeyPair

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


class Unavailable(CertificateError):  # noqa: N818 - reads as the reason it is
    """The store or the publisher cannot be reached now. Implementations raise it `from` the cause."""


class Contended(CertificateError):  # noqa: N818 - reads as the reason it is
    """Others kept changing the Secret while it was being written."""


class SecretStore(Protocol):
    """One Secret. Every method raises `Unavailable` when it cannot be reached."""

    async def read(self) -> Mapping[str, bytes] | None:
        """Return its decoded data; None while it does not exist."""

    async def create(self, data: Mapping[str, bytes]) -> bool:
        """Create it; return False when another replica was first."""

    async def replace(self, data: Mapping[str, bytes]) -> bool:
        """Replace what the last `read` returned; return False when it has changed or gone since."""
