"""A serving certificate from the files of a Secret's volume, which another program, such as cert-manager, renews.

The kubelet replaces the files of such a volume all at once, by a symbolic link:
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
"""Time between two reads of the files. The kubelet itself needs up to a minute to update them."""


class FileCertificate:
    """Serves the certificate of two files, and each new one that they contain later.

    Args:
        certificate: the file of the certificate and its chain (PEM), the leaf first.
        key: the file of its private key (PEM).
        clock: the current time, with a time zone.
        on_issued: called with the reason and the expiry of each certificate that is put into service.
        on_failure: called with each failure of `run`, which goes on with the certificate that it has.
        period: time between two reads of the files.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        clock: Callable[[], datetime],
        on_issued: Callable[[str, datetime], None],
        on_failure: Callable[[CertificateError], None],
        period: timedelta = PERIOD,
    ) -> None:
        self._files = certificate, key
        self._clock = clock
        self._on_issued = on_issued
        self._on_failure = on_failure
        self._period = period
        self._context = tls.server_context()
        self._pair: KeyPair | None = None
        self._expires_at: datetime | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """The server's context. It stays the same; each handshake presents the newest certificate."""
        return self._context

    @property
    def ready(self) -> bool:
        """Whether there is a certificate that has not expired."""
        return self._expires_at is not None and self._clock() < self._expires_at

    @property
    def waits_for(self) -> str:
        """What has to happen before there is a certificate."""
        return f"{self._files[0]} and {self._files[1]} to contain a valid one"

    async def run(self) -> None:
        """Keep serving what the files contain until cancelled."""
        await refresh_forever(self._refresh, period=self._period, on_failure=self._on_failure)

    async def _refresh(self) -> bool:
        self.refresh()
        return True

    def refresh(self) -> None:
        """Read the files, and serve their certificate where it is a new one.

        Raises:
            Unreadable: a file cannot be read, or they are no certificate and key; the former certificate stays.
        """
        pair = KeyPair(*(_read(file) for file in self._files))
        if pair == self._pair:
            return
        try:
            certificate = read_certificate(pair.certificate)
            # Tried with another context first: a failure would leave the running one without certificate and key.
            tls.serve(tls.server_context(), pair)
        except (Unreadable, ssl.SSLError) as error:
            why = "the key is not the private key of the certificate" if isinstance(error, ssl.SSLError) else error
            raise Unreadable(f"{self._files[0]} and {self._files[1]} cannot be served: {why}") from error
        tls.serve(self._context, pair)
        reason = "first" if self._pair is None else "the files have changed"
        self._pair, self._expires_at = pair, certificate.not_valid_after_utc
        self._on_issued(reason, self._expires_at)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from error
