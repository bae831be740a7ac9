"""Keep the certificate authority in its Secret, and have the API server trust it. The leading controller runs this.

Secret -> authority, issued when it is missing or due -> bundle published to the webhook configurations
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from certs.pki import (
    CLOCK_SKEW,
    CertificateError,
    issue_authority,
    merge_bundle,
    read_certificate,
    renewal_reason,
)
from certs.refresh import PERIOD, refresh_forever
from certs.secret import Authority, Contended, SecretStore

AUTHORITY_LIFE = timedelta(days=365)
"""Renewed with 122 days left: every controller may be away that long before a certificate lapses."""

ATTEMPTS = 5
"""Writes of the Secret before the keeper gives up until its next look."""


class BundlePublisher(Protocol):
    """Whoever calls the server and must trust it."""

    async def publish(self, bundle: bytes) -> None:
        """Have every client trust exactly these authorities (PEM); writes nothing where that is so already.

        Raises:
            Unavailable: a client could not be told.
        """


class AuthorityKeeper:
    """See to it that there is an authority, and that clients trust it. One controller, the leader, runs this.

    Args:
        store: the CA Secret.
        publisher: the webhook configurations.
        clock: the current time, with a time zone.
        common_name: the authority's name.
        life: how long a new authority lives.
        period: how often `run` looks.
        seen: called at each look with the authority's expiry, whoever issued it.
        issued: called with the reason and the expiry of each authority issued.
        failed: called with each failure of `run`; it goes on.
    """

    def __init__(
        self,
        store: SecretStore,
        publisher: BundlePublisher,
        *,
        clock: Callable[[], datetime],
        common_name: str = "ledgergate",
        life: timedelta = AUTHORITY_LIFE,
        period: timedelta = PERIOD,
        seen: Callable[[datetime], None] = lambda _: None,
        issued: Callable[[str, datetime], None] = lambda *_: None,
        failed: Callable[[CertificateError], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._seen = seen
        self._clock = clock
        self._common_name = common_name
        self._life = life
        self._period = period
        self._issued = issued
        self._failed = failed
        self._expires_at: datetime | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When the authority expires; None until it was seen."""
        return self._expires_at

    async def run(self) -> None:
        """Keep the authority fresh until cancelled."""
        await refresh_forever(self._refresh, period=self._period, failed=self._failed)

    async def _refresh(self) -> bool:
        await self.ensure(self._clock())
        return True

    async def ensure(self, now: datetime) -> bytes:
        """Issue the authority when it is missing or due, publish the bundle and return it (PEM).

        Args:
            now: the time to judge at, with a time zone.

        Raises:
            Unavailable: the store or the publisher cannot be reached.
            Contended: the Secret was changed by others again and again.
        """
        for _ in range(ATTEMPTS):
            data = await self._store.read()
            held = None if data is None else Authority.from_secret(data)
            reason = renewal_reason(held.pair if held else None, now=now)
            wanted = self._wanted(held, reason, now)
            # Trusted before it signs: webhooks change to the new authority as soon as the Secret holds it.
            await self._publisher.publish(wanted.bundle)
            if wanted == held or await self._write(held, wanted):
                self._expires_at = read_certificate(wanted.pair.certificate).not_valid_after_utc
                self._seen(self._expires_at)
                if reason is not None:
                    self._issued(reason, self._expires_at)
                return wanted.bundle
        raise Contended(
            f"the CA Secret was changed by others {ATTEMPTS} times in a row; tried again soon; "
            "only the leading controller should write it"
        )

    def _wanted(self, held: Authority | None, reason: str | None, now: datetime) -> Authority:
        if held is None or reason is not None:
            pair = issue_authority(self._common_name, not_before=now - CLOCK_SKEW, not_after=now + self._life)
        else:
            pair = held.pair
        return Authority(pair, merge_bundle(pair.certificate, held.bundle if held else b"", now=now))

    async def _write(self, held: Authority | None, wanted: Authority) -> bool:
        if held is None:
            return await self._store.create(wanted.to_secret())
        return await self._store.replace(wanted.to_secret())
