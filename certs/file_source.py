"""A certificate that somebody else keeps, such as cert-manager, in files that a Secret's volume brings.

The kubelet replaces such a volume's files all at once, by a symbolic link, and tells nobody:
https://kubernetes.io/docs/concepts/configuration/secret/#mounted-secrets-are-updated-automatically
"""

import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from certs import tls
from certs.pki import CertificateError, KeyPair, Unreadable, read_certificate
from certs.refresh import refresh_forever

PERIOD = timedelta(seconds=10)
"""How often the files are read. The kubelet itself needs up to a minute to bring a change."""


class FileCertificate:
    """Serve the certificate of two files, and the next one as soon as they hold it.

    Args:
        certificate: the file of the certificate and its chain (PEM), the leaf first.
        key: the file of its private key (PEM).
        clock: the current time, with a time zone.
        issued: called with the reason and the expiry of each certificate taken into service.
        failed: called with each failure of `run`; it goes on with the certificate it has.
        period: how often the files are read.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        clock: Callable[[], datetime],
        issued: Callable[[str, datetime], None],
        failed: Callable[[CertificateError], None],
        period: timedelta = PERIOD,
    ) -> None:
        self._files = certificate, key
        self._clock = clock
        self._issued = issued
        self._failed = failed
        self._period = period
        self._context = tls.server_context()
        self._pair: KeyPair | None = None
        self._expires_at: datetime | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """The context to serve with: one for the server's whole life, each handshake gets the newest certificate."""
        return self._context

    @property
    def ready(self) -> bool:
        """Whether there is a certificate, and it has not expired."""
        return self._expires_at is not None and self._clock() < self._expires_at

    @property
    def origin(self) -> str:
        """Where the certificate comes from, for those who wait for it."""
        return f"{self._files[0]} and {self._files[1]} to hold one that is valid"

    async def run(self) -> None:
        """Follow the files until cancelled."""
        await refresh_forever(self._refresh, period=self._period, failed=self._failed)

    async def _refresh(self) -> bool:
        self.refresh()
        return True

    def refresh(self) -> None:
        """Read the files, and serve what they hold when it is new.

        Raises:
            Unreadable: a file is missing, or they hold no certificate with its key; what is served stays as it is.
        """
        pair = KeyPair(*(_content(file) for file in self._files))
        if pair == self._pair:
            return
        try:
            certificate = read_certificate(pair.certificate)
            tls.serve(tls.server_context(), pair)  # what fails here would leave the running server without either
        except (Unreadable, ssl.SSLError) as error:
            why = "they hold no private key of that certificate" if isinstance(error, ssl.SSLError) else error
            raise Unreadable(f"{self._files[0]} and {self._files[1]} cannot be served: {why}") from error
        tls.serve(self._context, pair)
        reason = "first" if self._pair is None else "the files have changed"
        self._pair, self._expires_at = pair, certificate.not_valid_after_utc
        self._issued(reason, self._expires_at)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from error
