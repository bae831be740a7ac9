"""What the keeper of the authority does when others delete, damage or replace its Secret."""

import asyncio
import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority_keeper import AuthorityKeeper
from certs.dynamic_source import DynamicCertificate
from certs.pki import BUNDLE_LIMIT, CertificateError, issue_authority, renewal_reason
from certs.secret import BUNDLE, CERTIFICATE, KEY, Authority
from tests.authority_store import DAY, HOUR, START, Clock, Publisher, Replica, Store, held, running, until


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def keeper(store: Store, publisher: Publisher, clock: Clock) -> AuthorityKeeper:
    return AuthorityKeeper(Replica(store), publisher, clock=clock)


async def test_a_deleted_secret_takes_no_trust_away(
    keeper: AuthorityKeeper, store: Store, publisher: Publisher
) -> None:
    """What clients trusted before stays trusted beside the new authority, however the Secret was lost or replaced."""
    trusted = [held(store).pair.certificate for _ in [await keeper.ensure(START)]]
    foreign = issue_authority("foreign", not_before=START, not_after=START + 365 * DAY)
    for replacement in (None, {}, {CERTIFICATE: b"x"}, Authority(foreign, foreign.certificate).to_secret()):
        store.data = replacement
        bundle = await keeper.ensure(START)
        trusted.insert(0, held(store).pair.certificate)
        assert bundle == b"".join(dict.fromkeys(trusted)) == publisher.bundles[-1] == held(store).bundle
    assert trusted[0] == foreign.certificate


async def test_the_bundle_stays_small(keeper: AuthorityKeeper, store: Store) -> None:
    """A Secret that is deleted all the time leaves the newest authorities, and each is written once."""
    for _ in range(15):
        store.data = None
        bundle = await keeper.ensure(START)
    assert bundle.count(b"BEGIN CERTIFICATE") == BUNDLE_LIMIT
    assert bundle.startswith(held(store).pair.certificate)
    writes = store.writes
    assert await keeper.ensure(START) == bundle
    assert store.writes == writes


async def test_a_damaged_extension_is_one_more_reason(store: Store, publisher: Publisher, clock: Clock) -> None:
    """Whichever byte of the certificate is damaged, the keeper ends up with an authority that can sign."""
    pair = issue_authority("x", not_before=START - HOUR, not_after=START + 365 * DAY)
    der = x509.load_pem_x509_certificate(pair.certificate).public_bytes(Encoding.DER)
    failures: list[CertificateError] = []
    for position in range(0, len(der), 3):
        damaged = der[:position] + bytes([der[position] ^ 0x15]) + der[position + 1 :]
        text = ssl.DER_cert_to_PEM_cert(damaged).encode()
        store.put({CERTIFICATE: text, KEY: pair.key, BUNDLE: text})
        keeper = AuthorityKeeper(Replica(store), publisher, clock=clock, on_failure=failures.append)
        bundle = await keeper.ensure(START)
        assert renewal_reason(held(store).pair, now=START) is None
        assert damaged == der or text not in bundle or held(store).pair.certificate == text
    assert failures == []


class Trusting:
    """Clients that trust what a test says."""

    def __init__(self) -> None:
        self.authorities: list[bytes] = []

    def trust(self, authority: bytes) -> bool:
        """Return whether they do."""
        return authority in self.authorities


async def test_a_new_authority_signs_once_clients_trust_it(keeper: AuthorityKeeper, store: Store, clock: Clock) -> None:
    """The former leaf is served until a second after clients trust the new authority, or until the leaf expires."""
    clients = Trusting()
    issued: list[str] = []
    serving = DynamicCertificate(
        Replica(store), ["localhost"], clients=clients, clock=clock, on_issued=lambda reason, _: issued.append(reason)
    )
    await keeper.ensure(START)
    await serving.refresh(START)
    store.data = None
    await keeper.ensure(START)
    for seconds in (0, 5):
        await serving.refresh(START + timedelta(seconds=seconds))
        assert (len(issued), serving.pending) == (1, True)
    clients.authorities.append(held(store).pair.certificate)
    for milliseconds, expected, pending in ((10_000, 1, True), (10_500, 1, True), (11_000, 2, False)):
        await serving.refresh(START + timedelta(milliseconds=milliseconds))
        assert (len(issued), serving.pending) == (expected, pending)
    store.data = None
    await keeper.ensure(START)
    clock.now = START + 25 * HOUR
    await serving.refresh(clock.now)
    assert (len(issued), serving.ready) == (3, True)


async def test_a_change_is_followed_at_once(store: Store, publisher: Publisher, clock: Clock) -> None:
    """Keeper and replica check when they hear of a change, not when their period is over."""
    changed = asyncio.Event()
    keeper = AuthorityKeeper(Replica(store), publisher, clock=clock, period=DAY, changed=changed)
    serving = DynamicCertificate(Replica(store), ["localhost"], clock=clock, period=DAY, changed=changed)
    async with running(keeper.run()):
        await until(lambda: store.data)
        store.data = None
        await asyncio.sleep(0)
        changed.set()
        await until(lambda: store.data)
    async with running(serving.run()):
        await until(lambda: serving.ready)


async def test_nothing_ends_the_keeper(store: Store, publisher: Publisher, clock: Clock) -> None:
    """An error that was not foreseen is reported, and the next check is made."""
    failures: list[CertificateError] = []

    async def slip() -> None:
        if not failures:
            raise ValueError("a slip")

    store.window = slip
    keeper = AuthorityKeeper(
        Replica(store), publisher, clock=clock, period=timedelta(milliseconds=1), on_failure=failures.append
    )
    async with running(keeper.run()):
        await until(lambda: store.data)
    assert ["a slip" in str(each) for each in failures] == [True]
