"""A certificate in files that another program renews, over real TLS."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from certs.file_source import FileCertificate
from certs.pki import KeyPair, Unreadable, issue_authority, issue_leaf, read_certificate

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
AUTHORITY = issue_authority("tests", not_before=NOW - DAY, not_after=NOW + 90 * DAY)


def leaf(days: int = 10) -> KeyPair:
    """Issue a certificate for the loopback address."""
    return issue_leaf(AUTHORITY, ["127.0.0.1"], not_before=NOW - DAY, not_after=NOW + days * DAY)


class Volume:
    """A Secret's volume as the kubelet updates it: a directory with symbolic links, replaced by one rename."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.version = 0
        for name in ("tls.crt", "tls.key"):
            (directory / name).symlink_to(Path("..data", name))

    def hold(self, pair: KeyPair) -> None:
        """Write a new pair to the volume."""
        self.version += 1
        there = self.directory / f"..{self.version}"
        there.mkdir()
        (there / "tls.crt").write_bytes(pair.certificate)
        (there / "tls.key").write_bytes(pair.key)
        link = self.directory / "..data_tmp"
        link.symlink_to(there.name)
        link.replace(self.directory / "..data")


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def mounted(volume: Volume, log: list[str]) -> FileCertificate:
    """Return a certificate that is read from the volume and logs to a list."""
    return FileCertificate(
        volume.directory / "tls.crt",
        volume.directory / "tls.key",
        clock=lambda: NOW,
        on_issued=lambda reason, expires: log.append(f"{reason} until {expires:%Y-%m-%d}"),
        on_failure=lambda error: log.append(str(error)),
    )


async def presented(context: ssl.SSLContext) -> int:
    """Return the serial number of the certificate that a server with this context presents."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        trust = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(shown).serial_number


async def test_a_renewed_certificate_is_presented_to_the_next_client(volume: Volume) -> None:
    """After the files have changed, the same context presents the new certificate."""
    log: list[str] = []
    certificate = mounted(volume, log)
    first, second = leaf(), leaf(20)
    volume.hold(first)
    await certificate.refresh(NOW)
    assert certificate.ready
    assert await presented(certificate.context) == read_certificate(first.certificate).serial_number
    volume.hold(second)
    await certificate.refresh(NOW)
    await certificate.refresh(NOW)
    assert await presented(certificate.context) == read_certificate(second.certificate).serial_number
    days = [f"{NOW + days * DAY:%Y-%m-%d}" for days in (10, 20)]
    assert log == [f"first until {days[0]}", f"the files have changed until {days[1]}"]


async def test_files_that_cannot_be_served_keep_the_former_certificate(volume: Volume) -> None:
    """Another certificate's key, a text without a certificate and a missing file are reported; nothing else changes."""
    certificate = mounted(volume, [])
    good, other = leaf(), leaf()
    volume.hold(good)
    await certificate.refresh(NOW)
    for wrong, message in (
        (KeyPair(good.certificate, other.key), "the key is not the private key"),
        (KeyPair(b"nothing", good.key), "not a certificate in PEM format"),
    ):
        volume.hold(wrong)
        with pytest.raises(Unreadable, match=message):
            await certificate.refresh(NOW)
    (volume.directory / "..data").unlink()
    with pytest.raises(Unreadable, match="cannot be read: No such file"):
        await certificate.refresh(NOW)
    assert await presented(certificate.context) == read_certificate(good.certificate).serial_number


async def test_the_files_may_come_after_the_server(volume: Volume) -> None:
    """Without its files a server reports that and is not ready; it serves them as soon as they exist."""
    log: asyncio.Queue[str] = asyncio.Queue()
    certificate = FileCertificate(
        volume.directory / "tls.crt",
        volume.directory / "tls.key",
        clock=lambda: NOW,
        on_issued=lambda reason, _: log.put_nowait(reason),
        on_failure=lambda error: log.put_nowait(str(error)),
        period=timedelta(milliseconds=5),
    )
    following = asyncio.create_task(certificate.run())
    try:
        async with asyncio.timeout(30):
            assert "cannot be read" in await log.get()
            assert not certificate.ready
            volume.hold(leaf())
            while await log.get() != "first":
                pass
            assert certificate.ready
    finally:
        following.cancel()


async def test_a_certificate_that_has_expired_is_not_ready(volume: Volume) -> None:
    """A replica whose certificate is not renewed leaves the Service, instead of failing every handshake."""
    certificate = mounted(volume, [])
    volume.hold(issue_leaf(AUTHORITY, ["127.0.0.1"], not_before=NOW - 2 * DAY, not_after=NOW - DAY))
    await certificate.refresh(NOW)
    assert not certificate.ready


async def test_an_rsa_key_is_served(volume: Volume) -> None:
    """The issuer chooses the kind of key: cert-manager's default is RSA."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + DAY).sign(
        key, hashes.SHA256()
    )
    volume.hold(
        KeyPair(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
    )
    served = mounted(volume, [])
    await served.refresh(NOW)
    assert served.ready
