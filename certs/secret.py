"""The CA Secret: its keys, and the interface to the store.

tls.crt, tls.key   the authority that signs now (the names of a `kubernetes.io/tls` Secret)
ca.crt             the bundle that clients trust: this authority, and any older one that has not expired

CertificateError (`certs.pki`)
├── Unavailable     the store, or a client that has to trust the bundle, cannot be reached now
└── Contended       other clients kept changing the Secret while it was being written
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
    """The content of the CA Secret: the key pair that signs, and the bundle that is trusted (PEM)."""

    pair: KeyPair
    bundle: bytes

    @classmethod
    def from_secret(cls, data: Mapping[str, bytes]) -> "Authority":
        """Build from a Secret's decoded data. A missing key becomes an empty text, which then counts as unreadable."""
        return cls(KeyPair(data.get(CERTIFICATE, b""), data.get(KEY, b"")), data.get(BUNDLE, b""))

    def to_secret(self) -> dict[str, bytes]:
        """Return the Secret's data, not base64-encoded."""
        return {CERTIFICATE: self.pair.certificate, KEY: self.pair.key, BUNDLE: self.bundle}


class Unavailable(CertificateError):  # noqa: N818 - reads as the reason it is
    """The store or a client cannot be reached now. Implementations raise it `from` the cause."""


class Contended(CertificateError):  # noqa: N818 - reads as the reason it is
    """Other clients kept changing the Secret while it was being written."""


class SecretStore(Protocol):
    """A Secret. Every method raises `Unavailable` where it cannot be reached."""

    async def read(self) -> Mapping[str, bytes] | None:
        """Return its decoded data; None where it does not exist."""

    async def create(self, data: Mapping[str, bytes]) -> bool:
        """Create it; return False where another replica has created it first."""

    async def replace(self, data: Mapping[str, bytes]) -> bool:
        """Replace what the last `read` returned; return False where it has been changed or deleted since."""
