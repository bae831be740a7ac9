"""The authority and the serving certificate, with a Secret in memory and real TLS over loopback."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.authority_keeper import AuthorityKeeper
from certs.dynamic_source import DynamicCertificate
from certs.pki import CertificateError, Unreadable, issue_authority, renewal_reason
from certs.secret import BUNDLE, CERTIFICATE, KEY, Authority, Contended
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
def expiries() -> list[datetime]:
    """The expiry of each certificate that was issued."""
    return []


@pytest.fixture
def keeper(store: Store, publisher: Publisher, clock: Clock, expiries: list[datetime]) -> AuthorityKeeper:
    return AuthorityKeeper(Replica(store), publisher, clock=clock, on_issued=lambda _, expiry: expiries.append(expiry))


@pytest.fixture
def serving(store: Store, clock: Clock, expiries: list[datetime]) -> DynamicCertificate:
    names = ["localhost"]
    return DynamicCertificate(Replica(store), names, clock=clock, on_issued=lambda _, expiry: expiries.append(expiry))


async def presented(port: int, bundle: bytes) -> int:
    """Connect to a server, verify it against the bundle, and return its certificate's serial number."""
    client = ssl.create_default_context(cadata=bundle.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    return x509.load_der_x509_certificate(certificate).serial_number


@contextlib.asynccontextmanager
async def listening(context: ssl.SSLContext) -> AsyncIterator[int]:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await _reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_a_missing_authority_is_issued_once_and_published(
    keeper: AuthorityKeeper, store: Store, publisher: Publisher, expiries: list[datetime]
) -> None:
    """The first check creates the Secret and publishes the bundle; the next ones only publish it again."""
    bundle = await keeper.ensure(START)
    assert await keeper.ensure(START + DAY) == bundle
    assert store.writes == 1
    assert publisher.bundles == [bundle, bundle]
    assert bundle == held(store).bundle == held(store).pair.certificate
    assert expiries == [START + 365 * DAY]


async def test_two_keepers_at_once_agree_on_one_authority(store: Store, publisher: Publisher, clock: Clock) -> None:
    """Of two replicas that find no Secret, one creates the authority and the other uses it."""
    both_have_read = asyncio.Barrier(2)
    opened = 0

    async def meet() -> None:
        nonlocal opened
        opened += 1
        if opened <= 2:
            await both_have_read.wait()

    store.window = meet
    seen: list[datetime] = []
    keepers = [AuthorityKeeper(Replica(store), publisher, clock=clock, on_checked=seen.append) for _ in range(2)]
    first, second = await asyncio.gather(*(each.ensure(START) for each in keepers))
    assert seen == [START + 365 * DAY] * 2  # also in the replica that has issued nothing
    assert first == second == held(store).bundle == publisher.bundles[-1]
    assert store.writes == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop(KEY),
        lambda data: data.update({CERTIFICATE: b"junk"}),
        lambda data: data.update({KEY: issue_authority("x", not_before=START, not_after=START + DAY).key}),
        lambda data: data.clear(),
    ],
)
async def test_an_unusable_authority_is_replaced(
    keeper: AuthorityKeeper, store: Store, spoil: Callable[[dict[str, bytes]], None]
) -> None:
    """However the Secret was damaged, after the next check it has an authority that can sign, with its bundle."""
    await keeper.ensure(START)
    assert store.data
    spoil(store.data)
    bundle = await keeper.ensure(START)
    assert renewal_reason(held(store).pair, now=START) is None
    assert bundle.startswith(held(store).pair.certificate)


async def test_a_bundle_without_the_authority_is_repaired(keeper: AuthorityKeeper, store: Store) -> None:
    """The authority is kept and the bundle is repaired; nothing has to be signed again."""
    await keeper.ensure(START)
    before = held(store).pair
    assert store.data
    store.data[BUNDLE] = b"junk"
    assert await keeper.ensure(START) == before.certificate
    assert held(store) == Authority(before, before.certificate)


async def test_a_due_authority_is_trusted_before_it_signs(store: Store, clock: Clock) -> None:
    """The new authority is published, with the old one, before it is in the Secret; an expired one is dropped."""
    seen: list[tuple[bytes, bytes]] = []

    class Witness:
        async def published(self) -> bytes:
            return seen[-1][0] if seen else b""

        async def publish(self, bundle: bytes) -> None:
            seen.append((bundle, held(store).pair.certificate if store.data else b""))

    keeper = AuthorityKeeper(Replica(store), Witness(), clock=clock)
    old = await keeper.ensure(START)
    both = await keeper.ensure(START + 300 * DAY)
    new = held(store).pair.certificate
    assert both == new + old
    assert seen[-1] == (both, old)
    assert await keeper.ensure(START + 366 * DAY) == new


async def test_a_secret_that_others_keep_changing_is_given_up(keeper: AuthorityKeeper, store: Store) -> None:
    """Where another client changes the Secret between each read and write, the keeper raises instead of looping."""

    async def meddle() -> None:
        store.put({})

    store.put({})
    store.window = meddle
    with pytest.raises(Contended, match="5 times"):
        await keeper.ensure(START)


async def test_the_keeper_survives_an_outage(store: Store, publisher: Publisher, clock: Clock) -> None:
    """A store that cannot be reached is reported, and read again until it can be."""
    failures: list[CertificateError] = []
    issued: list[str] = []
    keeper = AuthorityKeeper(
        Replica(store),
        publisher,
        clock=clock,
        period=timedelta(milliseconds=1),
        on_failure=failures.append,
        on_issued=lambda reason, _: issued.append(reason),
    )
    store.down = True
    async with running(keeper.run()):
        await until(lambda: len(failures) > 1)
        store.down = False
        await until(lambda: publisher.bundles)
    assert issued == ["there is none yet"]


async def test_a_running_server_presents_the_new_leaf_without_restart(
    keeper: AuthorityKeeper, serving: DynamicCertificate, expiries: list[datetime]
) -> None:
    """Two handshakes with one server, before and after a renewal, show two serial numbers, both trusted."""
    bundle = await keeper.ensure(START - 17 * HOUR)
    await serving.refresh(START - 17 * HOUR)
    async with listening(serving.context) as port:
        first = await presented(port, bundle)
        assert await presented(port, bundle) == first
        await serving.refresh(START)
        assert await presented(port, bundle) != first
    assert expiries[-1] == START + DAY


async def test_a_changed_authority_signs_a_new_leaf(
    keeper: AuthorityKeeper, serving: DynamicCertificate, store: Store
) -> None:
    """A leaf that is far from its expiry is replaced too when the authority changes, and the new bundle trusts it."""
    old = await keeper.ensure(START)
    await serving.refresh(START)
    store.data = None
    new = await keeper.ensure(START)
    await serving.refresh(START)
    async with listening(serving.context) as port:
        await presented(port, new)
        with pytest.raises(ssl.SSLCertVerificationError):
            await presented(port, old)


async def test_a_webhook_waits_for_the_authority(
    keeper: AuthorityKeeper, serving: DynamicCertificate, store: Store, clock: Clock
) -> None:
    """It is not ready without a Secret, ready soon after there is one, and not ready once its leaf has expired."""
    async with running(serving.run()):
        await asyncio.sleep(0)
        assert not serving.ready
        await keeper.ensure(START)
        await until(lambda: serving.ready)
    store.down = True
    clock.now = START + DAY
    assert not serving.ready


async def test_an_unusable_secret_keeps_the_leaf(
    keeper: AuthorityKeeper, serving: DynamicCertificate, store: Store
) -> None:
    """A broken or expired authority is reported with what happens next; handshakes continue with the present leaf."""
    bundle = await keeper.ensure(START)
    await serving.refresh(START)
    good = store.data
    store.put({})
    with pytest.raises(Unreadable, match=r"cannot sign: its certificate .* PEM format; the leading controller"):
        await serving.refresh(START)
    assert good
    store.put(good)
    with pytest.raises(Unreadable, match="cannot sign: it expired at"):
        await serving.refresh(START + 400 * DAY)
    async with listening(serving.context) as port:
        await presented(port, bundle)


async def test_a_leaf_never_outlives_its_authority(
    serving: DynamicCertificate, store: Store, expiries: list[datetime]
) -> None:
    """No client would trust a leaf after its authority has expired."""
    pair = issue_authority("short", not_before=START - 100 * DAY, not_after=START + DAY)
    store.put(Authority(pair, pair.certificate).to_secret())
    await serving.refresh(START)
    assert expiries == [START + DAY]


async def test_no_key_stays_on_disk(
    keeper: AuthorityKeeper, serving: DynamicCertificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that Python's ssl needs for the key has been deleted when the certificate is in use."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await keeper.ensure(START)
    await serving.refresh(START)
    assert serving.ready
    assert next(os.scandir(tmp_path), None) is None
