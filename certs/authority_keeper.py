"""Keep the certificate authority in its Secret, and make the API server trust it.

Secret -> authority, issued where it is missing or due for renewal -> bundle, published to the webhook configurations
"""

import asyncio
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
    without,
)
from certs.refresh import PERIOD, refresh_forever
from certs.secret import Authority, Contended, SecretStore

AUTHORITY_LIFE = timedelta(days=365)
"""It is renewed with 122 days left: a certificate expires only if no controller runs for that long."""

ATTEMPTS = 5
"""Tries to write the Secret before the keeper gives up until its next check."""


class BundlePublisher(Protocol):
    """The clients that have to trust the authority."""

    async def published(self) -> bytes:
        """Return every authority that a client trusts now (PEM); empty where no client trusts any.

        Raises:
            Unavailable: a client cannot be read.
        """

    async def publish(self, bundle: bytes) -> None:
        """Make every client trust exactly these authorities (PEM); write nothing where they do already.

        Raises:
            Unavailable: a client could not be updated.
        """


class AuthorityKeeper:
    """Issues and publishes the authority. Only one process, the leading controller, runs it.

    Args:
        store: the CA Secret.
        publisher: the webhook configurations.
        clock: the current time, with a time zone.
        common_name: the authority's name.
        life: validity of a new authority.
        period: time between two checks of `run`.
        on_checked: called at each check with the expiry of the authority, whichever replica issued it.
        on_issued: called with the reason and the expiry of each authority that is issued here.
        on_failure: called with each failure of `run`, which goes on.
        changed: set when the Secret or a client has changed; `run` checks at once.
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
        on_checked: Callable[[datetime], None] = lambda _: None,
        on_issued: Callable[[str, datetime], None] = lambda *_: None,
        on_failure: Callable[[CertificateError], None] = lambda _: None,
        changed: asyncio.Event | None = None,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._on_checked = on_checked
        self._clock = clock
        self._common_name = common_name
        self._life = life
        self._period = period
        self._on_issued = on_issued
        self._on_failure = on_failure
        self._changed = changed

    async def run(self) -> None:
        """Keep the authority fresh until cancelled."""
        await refresh_forever(self._refresh, period=self._period, on_failure=self._on_failure, changed=self._changed)

    async def _refresh(self) -> bool:
        await self.ensure(self._clock())
        return True

    async def ensure(self, now: datetime) -> bytes:
        """Issue the authority where it is missing or due, publish the bundle and return it (PEM).

        Args:
            now: the current time, with a time zone.

        Raises:
            Unavailable: the store or a client cannot be reached.
            Contended: other clients kept changing the Secret.
        """
        unused: list[bytes] = []
        for _ in range(ATTEMPTS):
            data = await self._store.read()
            stored = None if data is None else Authority.from_secret(data)
            reason = renewal_reason(stored.pair if stored else None, now=now)
            published = without(await self._publisher.published(), unused)
            wanted = self._wanted(stored, reason, published, now)
            # Clients must trust an authority before it signs: each webhook uses it as soon as it is in the Secret.
            await self._publisher.publish(wanted.bundle)
            if wanted == stored or await self._write(stored, wanted):
                expires_at = read_certificate(wanted.pair.certificate).not_valid_after_utc
                self._on_checked(expires_at)
                if reason is not None:
                    self._on_issued(reason, expires_at)
                return wanted.bundle
            if reason is not None:
                unused.append(wanted.pair.certificate)  # another replica was first, so this authority never signs
        raise Contended(
            f"the CA Secret was changed by another client {ATTEMPTS} times in a row, although only the leading "
            "controller should write it; the next check tries again"
        )

    def _wanted(self, stored: Authority | None, reason: str | None, published: bytes, now: datetime) -> Authority:
        if stored is None or reason is not None:
            pair = issue_authority(self._common_name, not_before=now - CLOCK_SKEW, not_after=now + self._life)
        else:
            pair = stored.pair
        # What clients trust already counts too: where the Secret was deleted or replaced, only the clients still know
        # the authority that signed the replicas' certificates. Replicas use the new one as soon as clients trust it.
        return Authority(pair, merge_bundle(pair.certificate, stored.bundle if stored else b"", published, now=now))

    async def _write(self, stored: Authority | None, wanted: Authority) -> bool:
        if stored is None:
            return await self._store.create(wanted.to_secret())
        return await self._store.replace(wanted.to_secret())
