"""A short-lived serving certificate that is signed in memory. Each webhook replica has its own.

CA Secret -> leaf certificate, signed where it is missing or due for renewal -> SSL context of the running server
"""

import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

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

LEAF_LIFE = timedelta(days=7)
"""It is renewed with 56 hours left. A leaf exists in memory only, so a new one costs nothing but its signature."""


class DynamicCertificate(ServingCertificate):
    """Signs a short-lived leaf in memory, and has a running server present it.

    Args:
        store: the CA Secret, which is only read.
        names: DNS names and IP addresses of the server.
        life: validity of a new leaf, limited by that of its authority.
        clock, period, on_issued, on_failure, context: see `ServingCertificate`.
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
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(clock=clock, period=period, on_issued=on_issued, on_failure=on_failure, context=context)
        self._store = store
        self._names = tuple(names)
        self._life = life

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
        if reason is not None:
            self._present(self._sign(authority, now), reason)

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
