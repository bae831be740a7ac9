"""Serve a short-lived leaf certificate that is signed in memory. Each webhook replica has its own.

CA Secret -> leaf, signed when it is due -> SSL context of the running server
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
"""Renewed with 56 hours left. A leaf lives in memory only, so a new one costs nothing but the signature."""


class DynamicCertificate:
    """Sign a short-lived leaf in memory and have a running server present it. Each webhook replica has its own.

    Args:
        store: the CA Secret, only ever read.
        names: DNS names and IP addresses that clients call the server by.
        clock: the current time, with a time zone.
        life: how long a new leaf lives; never longer than its authority.
        period: how often `run` looks.
        issued: called with the reason and the expiry of each leaf issued.
        failed: called with each failure of `run`; it goes on with the leaf it has.
    """

    def __init__(
        self,
        store: SecretStore,
        names: Sequence[str],
        *,
        clock: Callable[[], datetime],
        life: timedelta = LEAF_LIFE,
        period: timedelta = PERIOD,
        issued: Callable[[str, datetime], None] = lambda *_: None,
        failed: Callable[[CertificateError], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._names = tuple(names)
        self._clock = clock
        self._life = life
        self._period = period
        self._issued = issued
        self._failed = failed
        self._context = tls.server_context()
        self._leaf: KeyPair | None = None
        self._expires_at: datetime | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """The context to serve with: one for the server's whole life, each handshake gets the newest leaf."""
        return self._context

    @property
    def expires_at(self) -> datetime | None:
        """When the leaf expires; None until there is one."""
        return self._expires_at

    @property
    def ready(self) -> bool:
        """Whether there is a leaf, and it has not expired."""
        return self._expires_at is not None and self._clock() < self._expires_at

    @property
    def origin(self) -> str:
        """Where the certificate comes from, for those who wait for it."""
        return "the controller to make the CA Secret"

    async def run(self) -> None:
        """Keep the leaf fresh until cancelled; look often while there is none."""
        await refresh_forever(self._refresh, period=self._period, failed=self._failed)

    async def _refresh(self) -> bool:
        await self.refresh(self._clock())
        return self.ready

    async def refresh(self, now: datetime) -> None:
        """Read the authority, and sign a leaf when one is due; nothing happens while there is no authority.

        Args:
            now: the time to judge at, with a time zone.

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
            self._issued(reason, self._expires_at)

    def _sign(self, authority: KeyPair, now: datetime) -> KeyPair:
        try:
            end = min(now + self._life, _usable_until(authority, now))
            return issue_leaf(authority, self._names, not_before=now - CLOCK_SKEW, not_after=end)
        except Unreadable as error:
            raise Unreadable(
                f"the authority in the CA Secret cannot sign: {error}; the leading controller issues another"
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
