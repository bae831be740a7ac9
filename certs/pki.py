"""Issue and check certificates: names and dates in, PEM out.

The functions are pure, apart from the keys and serial numbers that they generate. All keys are ECDSA P-256: they are
generated in microseconds, and every TLS client supports them. The extensions satisfy OpenSSL's strict mode (RFC 5280),
which Python 3.13 enables by default.

    CertificateError
    └── Unreadable      a certificate or its key cannot be used, or they do not belong together
"""

import contextlib
import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.{1,20000}?-----END CERTIFICATE-----", re.DOTALL)
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


BUNDLE_LIMIT = 10
"""Authorities of a bundle at most. There are more than two only where the CA Secret is replaced again and again; with a
new one every two seconds, a replica has 20 seconds to follow."""

CLOCK_SKEW = timedelta(hours=1)
"""How far in the past a certificate's validity starts, for clients whose clock is slow."""


class CertificateError(Exception):
    """A certificate cannot be issued, stored or published."""


class Unreadable(CertificateError):  # noqa: N818 - reads as the reason it is
    """A certificate or its key is not PEM of the kind that is issued here, or they do not belong together."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM. `repr` omits the key, which keeps it out of logs."""

    certificate: bytes
    key: bytes = field(repr=False)


def issue_authority(common_name: str, *, not_before: datetime, not_after: datetime) -> KeyPair:
    """Issue a self-signed authority that may sign leaf certificates, but no other authority.

    Args:
        common_name: name for people who read the bundle (at most 64 characters, RFC 5280).
        not_before: start of its validity, with a time zone.
        not_after: end of its validity, with a time zone.
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
        authority: an authority, such as `issue_authority` returns.
        names: DNS names and IP addresses of the server; at least one.
        not_before: start of its validity, with a time zone.
        not_after: end of its validity, with a time zone.

    Raises:
        Unreadable: the authority cannot be read.
        ValueError: there is no name, or one that a certificate cannot contain.
    """
    if not names:
        raise ValueError("a server certificate needs at least one DNS name or IP address; none was given")
    issuer, issuer_key = read_pair(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    draft = (
        _draft(key.public_key(), issuer.subject, not_before, not_after, _HANDSHAKES)
        # A common name is limited to 64 characters, and TLS clients ignore it. Without a subject, RFC 5280 4.1.2.6
        # requires the alternative names to be critical.
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
    """Return why a key pair has to be replaced; None while it can be used.

    Args:
        pair: the key pair; None where there is none.
        now: the current time, with a time zone.
        names: the DNS names and IP addresses that the certificate must cover.
        authority: PEM of the certificate that must have signed it; None where the pair must itself be an authority.
    """
    if pair is None:
        return "there is none yet"
    try:
        certificate, _ = read_pair(pair)
        issuer = certificate if authority is None else read_certificate(authority)
        return (
            _kind_problem(certificate, expected_authority=authority is None)
            or _validity_problem(certificate, now)
            or _name_problem(certificate, names)
            or _issuer_problem(certificate, issuer)
        )
    except Unreadable as unreadable:
        return str(unreadable)
    except Exception as error:  # noqa: BLE001 - a garbled extension raises one of a dozen exceptions when it is looked at
        return f"its certificate is damaged ({type(error).__name__})"


def read_certificate(pem: bytes) -> x509.Certificate:
    """Read the first certificate of a PEM text.

    Raises:
        Unreadable: the text has none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise Unreadable("its certificate is not a certificate in PEM format") from error


def read_pair(pair: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Read a certificate and its key.

    Raises:
        Unreadable: one of them cannot be read, or they do not belong together.
    """
    certificate, key = read_certificate(pair.certificate), _read_key(pair.key)
    try:
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unreadable("its certificate has a key that cannot be read") from error
    if public_key != key.public_key():
        raise Unreadable("its key belongs to another certificate")
    return certificate, key


def merge_bundle(current: bytes, *older: bytes, now: datetime, limit: int = BUNDLE_LIMIT) -> bytes:
    """Return the authorities that clients must trust: the current one, then each older one that is still valid.

    Args:
        current: PEM of the authority that signs now.
        older: texts with any number of authorities in PEM, the newest first; what cannot be read counts as absent.
        now: the current time, with a time zone.
        limit: authorities at most; the last ones are left out.
    """
    others = [certificate for text in older for certificate in _certificates(text) if _is_trustworthy(certificate, now)]
    # Each authority once: the bundle is compared with what is published, so it must not grow with every refresh.
    trusted = dict.fromkeys(
        certificate.public_bytes(serialization.Encoding.PEM) for certificate in (read_certificate(current), *others)
    )
    return b"".join(list(trusted)[:limit])


def contains(bundle: bytes, certificate: bytes) -> bool:
    """Return whether a bundle has a certificate (both PEM); one that cannot be read is in no bundle."""
    try:
        wanted = read_certificate(certificate)
    except Unreadable:
        return False
    return wanted in _certificates(bundle)


def without(bundle: bytes, certificates: Collection[bytes]) -> bytes:
    """Return a bundle without some certificates (all PEM, as they are issued here)."""
    for each in certificates:
        bundle = bundle.replace(each.strip(), b"")
    return bundle


def _certificates(text: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM text, each read alone: a damaged one does not hide the others."""
    found = []
    for block in _PEM.findall(text):
        with contextlib.suppress(Unreadable):
            found.append(read_certificate(block))
    return found


def _is_trustworthy(certificate: x509.Certificate, now: datetime) -> bool:
    """Return whether a certificate is an authority that has not expired, and whose signature matches its content.

    A damaged one would be of no use, and the API server refuses a bundle with one that it cannot read.
    """
    try:
        return (
            certificate.not_valid_after_utc > now
            and _kind_problem(certificate, expected_authority=True) is None
            and _issuer_problem(certificate, certificate) is None
        )
    except Exception:  # noqa: BLE001 - see `renewal_reason`
        return False


def _kind_problem(certificate: x509.Certificate, *, expected_authority: bool) -> str | None:
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if is_authority == expected_authority:
        return None
    return "it is not an authority" if expected_authority else "it is an authority, not a server certificate"


def _validity_problem(certificate: x509.Certificate, now: datetime) -> str | None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        return f"it is not valid before {start:%Y-%m-%dT%H:%M:%SZ}"
    if now >= end:
        return f"it expired at {end:%Y-%m-%dT%H:%M:%SZ}"
    if now >= end - (end - start) / 3:  # as cert-manager renews by default
        return f"less than a third of its validity is left: it expires at {end:%Y-%m-%dT%H:%M:%SZ}"
    return None


def _name_problem(certificate: x509.Certificate, names: Sequence[str]) -> str | None:
    if not names:
        return None
    try:
        covered = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        covered = set()
    missing = [name for name in names if _general_name(name) not in covered]
    return f"it does not cover {', '.join(missing)}" if missing else None


def _issuer_problem(certificate: x509.Certificate, issuer: x509.Certificate) -> str | None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
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
        raise Unreadable("its key is not a private key in PEM format") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Unreadable("its key is not an elliptic-curve key")
    return key


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
