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
from certs.serving import ServingCertificate

PERIOD = timedelta(seconds=10)
"""Time between two reads of the files. The kubelet itself needs up to a minute to update them."""


class FileCertificate(ServingCertificate):
    """Serves the certificate of two files, and each new one that they contain later.

    Args:
        certificate: the file of the certificate and its chain (PEM), the leaf first.
        key: the file of its private key (PEM).
        clock, period, on_issued, on_failure, context: see `ServingCertificate`.
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
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(clock=clock, period=period, on_issued=on_issued, on_failure=on_failure, context=context)
        self._files = certificate, key

    @property
    def waits_for(self) -> str:
        """What has to happen before there is a certificate."""
        return f"{self._files[0]} and {self._files[1]} to contain a valid one"

    async def refresh(self, now: datetime) -> None:
        """Read the files, and serve their certificate where it is a new one, whatever time it is.

        Raises:
            Unreadable: a file cannot be read, or they are no certificate and key; the former certificate stays.
        """
        del now
        pair = KeyPair(*(_read(file) for file in self._files))
        if pair == self._pair:
            return
        try:
            read_certificate(pair.certificate)
            # Tried with another context first: a failure would leave the running one without certificate and key.
            tls.serve(tls.server_context(), pair)
        except (Unreadable, ssl.SSLError) as error:
            why = "the key is not the private key of the certificate" if isinstance(error, ssl.SSLError) else error
            raise Unreadable(f"{self._files[0]} and {self._files[1]} cannot be served: {why}") from error
        self._present(pair, "first" if self._pair is None else "the files have changed")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from error
