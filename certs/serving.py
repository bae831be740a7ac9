"""A certificate that a running server presents, whatever its source."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta

from certs import tls
from certs.pki import CertificateError, KeyPair, read_certificate
from certs.refresh import refresh_forever


class ServingCertificate(ABC):
    """One SSL context for the server's whole life; each handshake presents the newest certificate.

    Args:
        clock: the current time, with a time zone.
        period: time between two checks of `run`.
        on_issued: called with the reason and the expiry of each certificate that is put into service.
        on_failure: called with each failure of `run`, which goes on with the certificate that it has.
        context: presents the certificate; by default one that accepts any client.
        changed: set when the source has changed; `run` checks at once.

    Attributes:
        pending: a new certificate is due, but waits for its clients; `run` checks every second.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        period: timedelta,
        on_issued: Callable[[str, datetime], None],
        on_failure: Callable[[CertificateError], None],
        context: ssl.SSLContext | None = None,
        changed: asyncio.Event | None = None,
    ) -> None:
        self.pending = False
        self._changed = changed
        self.context = context or tls.server_context()
        self._clock = clock
        self._period = period
        self._on_issued = on_issued
        self._on_failure = on_failure
        self._pair: KeyPair | None = None
        self._expires_at: datetime | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a certificate that has not expired."""
        return self._expires_at is not None and self._clock() < self._expires_at

    @property
    @abstractmethod
    def waits_for(self) -> str:
        """What has to happen before there is a certificate."""

    async def run(self) -> None:
        """Keep the certificate fresh until cancelled; check every second while there is none."""
        await refresh_forever(self._refresh, period=self._period, on_failure=self._on_failure, changed=self._changed)

    @abstractmethod
    async def refresh(self, now: datetime) -> None:
        """Put a new certificate into service where the source has one, or the present one is due for renewal.

        Args:
            now: the current time, with a time zone.

        Raises:
            CertificateError: the source cannot be read or used; the former certificate stays in service.
        """

    async def _refresh(self) -> bool:
        await self.refresh(self._clock())
        return self.ready and not self.pending

    def _present(self, pair: KeyPair, reason: str) -> None:
        tls.serve(self.context, pair)
        self._pair, self._expires_at = pair, read_certificate(pair.certificate).not_valid_after_utc
        self._on_issued(reason, self._expires_at)
