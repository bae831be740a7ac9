"""Issue and judge certificates: names and dates in, PEM out.

Pure but for the keys and serial numbers it draws. ECDSA P-256 throughout: the keys are made in microseconds and every
TLS client speaks it. The extensions satisfy OpenSSL's strict mode (RFC 5280), which Python 3.13 switches on by default.

    CertificateError
    └── Unreadable      a certificate or its key is no PEM that we issue, or they do not belong together
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CERTIFICATE_SIGNING = {"key_cert_sign": True, "crl_sign": True, "digital_signature": False}
_HANDSHAKES = {"key_cert_sign": False, "crl_sign": False, "digital_signature": True}
_NEVER = {
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "encipher_only": False,
    "decipher_only": False,
}


CLOCK_SKEW = timedelta(hours=1)
"""How far in the past a certificate's life starts, for clients whose clock is late."""


class CertificateError(Exception):
    """Anything that keeps a certificate from being issued, kept or published."""


class Unreadable(CertificateError):  # noqa: N818 - reads as the reason it is
    """A certificate or its key is no PEM of the kind that we issue, or they do not belong together."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM. The key stays out of `repr`, so out of logs."""

    certificate: bytes
    key: bytes = field(repr=False)


def issue_authority(common_name: str, *, not_before: datetime, not_after: datetime) -> KeyPair:
    """Issue a self-signed authority that may sign leaves, and nothing below another authority.

    Args:
        common_name: who it is, for people who read the bundle (at most 64 characters, RFC 5280).
        not_before: start of its life, with a time zone.
        not_after: end of its life, with a time zone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    draft = (
        _draft(key.public_key(), name, not_before, not_after, _CERTIFICATE_SIGNING)
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return _pair(draft.sign(key, hashes.SHA256()), key)


def issue_leaf(authority: KeyPair, names: Sequence[str], *, not_before: datetime, not_after: datetime) -> KeyPair:
    """Issue a server certificate, signed by an authority.

    Args:
        authority: what `issue_authority` returned, or its like.
        names: DNS names and IP addresses that clients call the server by; at least one.
        not_before: start of its life, with a time zone.
        not_after: end of its life, with a time zone.

    Raises:
        Unreadable: the authority is not readable.
        ValueError: there is no name, or one that no certificate can carry.
    """
    if not names:
        raise ValueError("a server certificate needs at least one DNS name or IP address; none was given")
    issuer, issuer_key = read_pair(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    draft = (
        _draft(key.public_key(), issuer.subject, not_before, not_after, _HANDSHAKES)
        # No common name: it is limited to 64 characters and nobody reads it. RFC 5280 4.1.2.6 then wants the
        # alternative names critical.
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return _pair(draft.sign(issuer_key, hashes.SHA256()), key)


def renewal_reason(
    pair: KeyPair | None, *, now: datetime, names: Sequence[str] = (), authority: bytes | None = None
) -> str | None:
    """Say why a key pair must be issued anew; None while it is fine.

    Args:
        pair: what is there now; None when nothing is.
        now: the time to judge at, with a time zone.
        names: the DNS names and IP addresses that it must cover.
        authority: PEM of the certificate that must have signed it; None when the pair is itself an authority.
    """
    if pair is None:
        return "there is none yet"
    try:
        certificate, _ = read_pair(pair)
        issuer = certificate if authority is None else read_certificate(authority)
    except Unreadable as unreadable:
        return str(unreadable)
    return (
        _reason_of_kind(certificate, expected_authority=authority is None)
        or _reason_of_dates(certificate, now)
        or _reason_of_names(certificate, names)
        or _reason_of_issuer(certificate, issuer)
    )


def read_certificate(pem: bytes) -> x509.Certificate:
    """Read the first certificate of a PEM text.

    Raises:
        Unreadable: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Unreadable("its certificate is no PEM certificate") from error


def read_pair(pair: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Read a certificate and its key.

    Raises:
        Unreadable: one of them cannot be read, or they do not belong together.
    """
    certificate, key = read_certificate(pair.certificate), _read_key(pair.key)
    if certificate.public_key() != key.public_key():
        raise Unreadable("its key belongs to another certificate")
    return certificate, key


def merge_bundle(current: bytes, older: bytes, *, now: datetime) -> bytes:
    """Join the authorities that clients must trust: the current one first, then each other that has not expired.

    Args:
        current: PEM of the authority that signs now.
        older: PEM of any number of authorities; what cannot be read adds nothing.
        now: the time to judge at, with a time zone.
    """
    try:
        others = x509.load_pem_x509_certificates(older)
    except ValueError:
        others = []
    wanted = [read_certificate(current), *(other for other in others if other.not_valid_after_utc > now)]
    return b"".join(dict.fromkeys(certificate.public_bytes(serialization.Encoding.PEM) for certificate in wanted))


def _reason_of_kind(certificate: x509.Certificate, *, expected_authority: bool) -> str | None:
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if is_authority == expected_authority:
        return None
    return "it is no authority" if expected_authority else "it is an authority, where a server certificate belongs"


def _reason_of_dates(certificate: x509.Certificate, now: datetime) -> str | None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        return f"it is not valid before {start:%Y-%m-%dT%H:%M:%SZ}"
    if now >= end:
        return f"it expired at {end:%Y-%m-%dT%H:%M:%SZ}"
    if now >= end - (end - start) / 3:
        return f"less than a third of its life is left, until {end:%Y-%m-%dT%H:%M:%SZ}"
    return None


def _reason_of_names(certificate: x509.Certificate, names: Sequence[str]) -> str | None:
    if not names:
        return None
    try:
        covered = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        covered = set()
    missing = [name for name in names if _general_name(name) not in covered]
    return f"it does not cover {', '.join(missing)}" if missing else None


def _reason_of_issuer(certificate: x509.Certificate, issuer: x509.Certificate) -> str | None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return "another authority issued it"
    return None


def _draft(
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    not_before: datetime,
    not_after: datetime,
    usage: dict[str, bool],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.KeyUsage(**usage, **_NEVER), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unreadable("its key is no PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Unreadable("its key is not of the elliptic-curve kind that we issue")
    return key


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
