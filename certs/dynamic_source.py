"""A short-lived serving certificate that is signed in memory. Each webhook replica has its own.

CA Secret -> leaf certificate, signed where it is missing or due for renewal -> SSL context of the running server
"""

import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from certs import tls
from certs.pki import (
    CLOCK_SKEW,
    CertificateError,
    KeyPair,
    Unreadable,
    issue_leaf,
    read_certificate,
    read_pair,
    renewal_reason,
)
from certs.refresh import PERIOD, refresh_forever
from certs.secret import Authority, SecretStore

LEAF_LIFE = timedelta(days=7)
"""It is renewed with 56 hours left. A leaf exists in memory only, so a new one costs nothing but its signature."""


class DynamicCertificate:
    """Signs a short-lived leaf in memory, and has a running server present it.

    Args:
        store: the CA Secret, which is only read.
        names: DNS names and IP addresses of the server.
        clock: the current time, with a time zone.
        life: validity of a new leaf, limited by that of its authority.
        period: time between two checks of `run`.
        on_issued: called with the reason and the expiry of each leaf.
        on_failure: called with each failure of `run`, which goes on with the leaf that it has.
    """

    def __init__(
        self,
        store: SecretStore,
        names: Sequence[str],
        *,
        clock: Callable[[], datetime],
        life: timedelta = LEAF_LIFE,
        period: timedelta = PERIOD,
        on_issued: Callable[[str, datetime], None] = lambda *_: None,
        on_failure: Callable[[CertificateError], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._names = tuple(names)
        self._clock = clock
        self._life = life
        self._period = period
        self._on_issued = on_issued
        self._on_failure = on_failure
        self._context = tls.server_context()
        self._leaf: KeyPair | None = None
        self._expires_at: datetime | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """The server's context. It stays the same; each handshake presents the newest leaf."""
        return self._context

    @property
    def expires_at(self) -> datetime | None:
        """When the leaf expires; None until there is one."""
        return self._expires_at

    @property
    def ready(self) -> bool:
        """Whether there is a leaf that has not expired."""
        return self._expires_at is not None and self._clock() < self._expires_at

    @property
    def waits_for(self) -> str:
        """What has to happen before there is a certificate."""
        return "the controller to create the CA Secret"

    async def run(self) -> None:
        """Keep the leaf fresh until cancelled; check every second while there is none."""
        await refresh_forever(self._refresh, period=self._period, on_failure=self._on_failure)

    async def _refresh(self) -> bool:
        await self.refresh(self._clock())
        return self.ready

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
        reason = renewal_reason(self._leaf, now=now, names=self._names, authority=authority.certificate)
        if reason is not None:
            self._expires_at = self._serve(self._sign(authority, now))
            self._on_issued(reason, self._expires_at)

    def _sign(self, authority: KeyPair, now: datetime) -> KeyPair:
        try:
            end = min(now + self._life, _usable_until(authority, now))
            return issue_leaf(authority, self._names, not_before=now - CLOCK_SKEW, not_after=end)
        except Unreadable as error:
            raise Unreadable(
                f"the authority in the CA Secret cannot sign: {error}; the leading controller replaces it"
            ) from error

    def _serve(self, leaf: KeyPair) -> datetime:
        tls.serve(self._context, leaf)
        self._leaf = leaf
        return read_certificate(leaf.certificate).not_valid_after_utc


def _usable_until(authority: KeyPair, now: datetime) -> datetime:
    certificate, _ = read_pair(authority)
    end = certificate.not_valid_after_utc
    if end <= now:
        raise Unreadable(f"it expired at {end:%Y-%m-%dT%H:%M:%SZ}")
    return end
