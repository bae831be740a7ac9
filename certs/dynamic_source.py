"""A short-lived serving certificate that is signed in memory. Each webhook replica has its own.

CA Secret -> leaf certificate, signed where it is missing or due for renewal -> SSL context of the running server
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from certs.pki import (
    CLOCK_SKEW,
    CertificateError,
    KeyPair,
    Unreadable,
    issue_leaf,
    read_pair,
    renewal_reason,
)
from certs.refresh import PERIOD
from certs.secret import Authority, SecretStore
from certs.serving import ServingCertificate

LEAF_LIFE = timedelta(hours=24)
"""It is renewed with 8 hours left. A leaf exists in memory only, so a new one costs nothing but its signature."""

TRUST_DELAY = timedelta(seconds=1)
"""Time from when clients are known to trust another authority to the first leaf that it signs: each API server learns
of the authority by its own watch, some later than others."""


class Clients(Protocol):
    """The clients that have to trust the authority, as far as they are known."""

    def trust(self, authority: bytes) -> bool:
        """Return whether every client trusts an authority (PEM), or nothing is known of them."""


class DynamicCertificate(ServingCertificate):
    """Signs a short-lived leaf in memory, and has a running server present it.

    Args:
        store: the CA Secret, which is only read.
        names: DNS names and IP addresses of the server.
        life: validity of a new leaf, limited by that of its authority.
        clients: asked before the leaf of another authority takes the place of one that still works; with None, it takes
            the place at once.
        clock, period, on_issued, on_failure, context, changed: see `ServingCertificate`.
    """

    def __init__(
        self,
        store: SecretStore,
        names: Sequence[str],
        *,
        clock: Callable[[], datetime],
        clients: Clients | None = None,
        life: timedelta = LEAF_LIFE,
        period: timedelta = PERIOD,
        on_issued: Callable[[str, datetime], None] = lambda *_: None,
        on_failure: Callable[[CertificateError], None] = lambda _: None,
        context: ssl.SSLContext | None = None,
        changed: asyncio.Event | None = None,
    ) -> None:
        super().__init__(
            clock=clock, period=period, on_issued=on_issued, on_failure=on_failure, context=context, changed=changed
        )
        self._store = store
        self._names = tuple(names)
        self._life = life
        self._clients = clients
        self._signer = b""
        self._trusted: tuple[bytes, datetime] | None = None  # an authority that clients trust, and since when

    @property
    def waits_for(self) -> str:
        """What has to happen before there is a certificate."""
        return "the controller to create the CA Secret"

    async def refresh(self, now: datetime) -> None:
        """Read the authority, and sign a leaf where one is due; do nothing while there is no authority.

        Args:
            now: the current time, with a time zone.

        Raises:
            Unavailable: the Secret cannot be read.
            Unreadable: the Secret's content cannot be used; the leaf stays as it is.
        """
        data = await self._store.read()
        if data is None:
            return
        authority = Authority.from_secret(data).pair
        reason = renewal_reason(self._pair, now=now, names=self._names, authority=authority.certificate)
        self.pending = reason is not None and self.ready and not self._may_sign(authority.certificate, now)
        if reason is not None and not self.pending:
            self._present(self._sign(authority, now), reason)
            self._signer = authority.certificate

    def _may_sign(self, authority: bytes, now: datetime) -> bool:
        """Return whether clients have trusted an authority for long enough for it to replace the current one."""
        if self._clients is None or authority == self._signer:
            return True
        if not self._clients.trust(authority):
            self._trusted = None
            return False
        if self._trusted is None or self._trusted[0] != authority:
            self._trusted = authority, now
        return now - self._trusted[1] >= TRUST_DELAY

    def _sign(self, authority: KeyPair, now: datetime) -> KeyPair:
        try:
            end = min(now + self._life, _usable_until(authority, now))
            return issue_leaf(authority, self._names, not_before=now - CLOCK_SKEW, not_after=end)
        except Unreadable as error:
            raise Unreadable(
                f"the authority in the CA Secret cannot sign: {error}; the leading controller replaces it"
            ) from error


def _usable_until(authority: KeyPair, now: datetime) -> datetime:
    certificate, _ = read_pair(authority)
    end = certificate.not_valid_after_utc
    if end <= now:
        raise Unreadable(f"it expired at {end:%Y-%m-%dT%H:%M:%SZ}")
    return end
