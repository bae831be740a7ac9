"""Certificates, verified by OpenSSL in its strict mode."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from certs.pki import KeyPair, Unreadable, issue_authority, issue_leaf, merge_bundle, read_certificate, renewal_reason
from certs.tls import serve, server_context

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
SERVICE = "ledgergate-webhook.ledgergate.svc"


def authority(name: str = "test", start: datetime = NOW, life: timedelta = YEAR) -> KeyPair:
    return issue_authority(name, not_before=start, not_after=start + life)


def leaf(issuer: KeyPair, *names: str, start: datetime = NOW, life: timedelta = timedelta(days=7)) -> KeyPair:
    return issue_leaf(issuer, names or (SERVICE,), not_before=start, not_after=start + life)


CA = authority()
LEAF = leaf(CA)


def handshake(pair: KeyPair, bundle: bytes, name: str) -> str | None:
    """Do a handshake in memory with a client as strict as Python 3.13's default; return the negotiated protocol."""
    client_context = ssl.create_default_context(cadata=bundle.decode())
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    client_context.set_alpn_protocols(["h2", "http/1.1"])
    context = server_context()
    serve(context, pair)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.selected_alpn_protocol()


def valid_today() -> tuple[KeyPair, tuple[str, ...]]:
    """Return an authority that is valid now, by the clock that OpenSSL uses, and every kind of name."""
    names = (SERVICE, "localhost", "127.0.0.1", "::1")
    today = datetime.now(UTC) - timedelta(minutes=1)
    return authority(start=today), names


@pytest.mark.parametrize("name", [SERVICE, "localhost", "127.0.0.1", "::1"])
def test_a_client_trusts_every_name_of_a_leaf(name: str) -> None:
    """A strict client that knows only the authority accepts DNS names and IP addresses of both versions."""
    issuer, names = valid_today()
    pair = leaf(issuer, *names, start=datetime.now(UTC) - timedelta(minutes=1))
    assert handshake(pair, issuer.certificate, name) == "http/1.1"


def test_a_client_refuses_other_names_and_authorities() -> None:
    """A name that is not covered, or an authority that is not trusted, fails the handshake."""
    issuer, names = valid_today()
    pair = leaf(issuer, *names, start=datetime.now(UTC) - timedelta(minutes=1))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(pair, issuer.certificate, "other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(pair, valid_today()[0].certificate, SERVICE)


def test_a_bundle_of_two_authorities_verifies_leaves_of_both() -> None:
    """During a rotation leaves of the old and of the new authority, which have one name, are trusted."""
    (old, names), (new, _) = valid_today(), valid_today()
    bundle = merge_bundle(new.certificate, old.certificate, now=datetime.now(UTC))
    for issuer in (old, new):
        pair = leaf(issuer, *names, start=datetime.now(UTC) - timedelta(minutes=1))
        assert handshake(pair, bundle, SERVICE) == "http/1.1"


def test_a_leaf_cannot_sign_and_an_authority_signs_only_leaves() -> None:
    """The extensions restrict each certificate to its purpose."""
    ca = read_certificate(CA.certificate).extensions
    assert ca.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(ca=True, path_length=0)
    assert ca.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    end = read_certificate(LEAF.certificate).extensions
    assert not end.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not end.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


@given(start=st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1)), seconds=st.integers(1, 10**8))  # noqa: DTZ001 - made aware below
def test_dates_are_kept_to_the_second(start: datetime, seconds: int) -> None:
    """A certificate's validity is exactly the requested one."""
    begin = start.replace(microsecond=0, tzinfo=UTC)
    end = begin + timedelta(seconds=seconds)
    pair = issue_authority("dates", not_before=begin, not_after=end)
    certificate = read_certificate(pair.certificate)
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (begin, end)


@given(share=st.floats(0, 1.5))
def test_a_certificate_is_renewed_after_two_thirds_of_its_validity(share: float) -> None:
    """There is no reason to renew before that, and always one afterwards."""
    reason = renewal_reason(LEAF, now=NOW + share * timedelta(days=7), authority=CA.certificate)
    assert (reason is None) == (share * 7 * 86400 < 7 * 86400 * 2 / 3)


@pytest.mark.parametrize(
    ("pair", "names", "issuer", "reason"),
    [
        (None, (), None, "there is none yet"),
        (CA, (), None, None),
        (LEAF, (SERVICE,), CA, None),
        (KeyPair(b"", b""), (), None, "its certificate is not a certificate in PEM format"),
        (KeyPair(CA.certificate, b"junk"), (), None, "its key is not a private key in PEM format"),
        (KeyPair(CA.certificate, LEAF.key), (), None, "its key belongs to another certificate"),
        (LEAF, (SERVICE, "10.0.0.1"), CA, "it does not cover 10.0.0.1"),
        (LEAF, (), authority(), "another authority issued it"),
        (LEAF, (), authority("other name"), "another authority issued it"),
        (LEAF, (), None, "it is not an authority"),
        (CA, (), CA, "it is an authority, not a server certificate"),
        (leaf(CA, start=NOW + timedelta(days=1)), (), CA, "it is not valid before 2026-03-02T12:00:00Z"),
        (leaf(CA, start=NOW - timedelta(days=9)), (), CA, "it expired at 2026-02-27T12:00:00Z"),
        (
            leaf(CA, start=NOW - timedelta(days=5)),
            (),
            CA,
            "less than a third of its validity is left: it expires at 2026-03-03T12:00:00Z",
        ),
    ],
)
def test_every_reason_to_renew(
    pair: KeyPair | None, names: tuple[str, ...], issuer: KeyPair | None, reason: str | None
) -> None:
    """Each defect of a key pair has its own reason, worded for a log line."""
    assert renewal_reason(pair, now=NOW, names=names, authority=issuer.certificate if issuer else None) == reason


def test_another_kind_of_key_is_a_reason_to_renew() -> None:
    """An authority with an RSA key, which another tool has stored, is replaced."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    reason = renewal_reason(KeyPair(CA.certificate, pem), now=NOW)
    assert reason == "its key is not an elliptic-curve key"


def test_an_unusable_authority_does_not_sign() -> None:
    """With a key that is not the authority's, leaves would not be trusted; it is refused instead."""
    with pytest.raises(Unreadable, match="belongs to another"):
        leaf(KeyPair(CA.certificate, LEAF.key))
    with pytest.raises(ValueError, match="at least one"):
        issue_leaf(CA, (), not_before=NOW, not_after=NOW + YEAR)


def test_a_bundle_contains_each_valid_authority_once_in_order() -> None:
    """The current authority is first; expired and duplicate ones, and text without a certificate, are left out."""
    old, dead = authority("old"), authority("dead", start=NOW - 2 * YEAR)
    older = old.certificate + dead.certificate + CA.certificate + old.certificate
    assert merge_bundle(CA.certificate, older, now=NOW) == CA.certificate + old.certificate
    assert merge_bundle(CA.certificate, b"no certificate", now=NOW) == CA.certificate


def test_a_key_is_not_shown() -> None:
    """The key of a pair does not appear in a log line or traceback."""
    assert "PRIVATE" not in repr(CA)
