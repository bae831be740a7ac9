"""The authority and the serving certificate, with a Secret in memory and real TLS over loopback."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority_keeper import AuthorityKeeper
from certs.dynamic_source import DynamicCertificate
from certs.pki import BUNDLE_LIMIT, CertificateError, Unreadable, issue_authority, renewal_reason
from certs.secret import BUNDLE, CERTIFICATE, KEY, Authority, Contended, Unavailable

START = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class Clock:
    """A clock that moves only when a test sets it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


class Store:
    """A Secret in memory with a version, as in the API server; `window` runs between a read and a write."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] | None = None
        self.version = 0
        self.writes = 0
        self.down = False
        self.window: Callable[[], Awaitable[None]] | None = None

    async def read(self) -> dict[str, bytes] | None:
        """Return the data, unless the store is down."""
        if self.down:
            raise Unavailable("the Secret cannot be read: connection refused")
        return self.data and dict(self.data)

    def put(self, data: Mapping[str, bytes]) -> None:
        """Write the Secret, as any client may."""
        self.data = dict(data)
        self.version += 1
        self.writes += 1


class Replica:
    """One replica's access to the Secret, with the version that this replica has read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = 0

    async def read(self) -> dict[str, bytes] | None:
        """Remember the version, then let the other replicas run."""
        data = await self._store.read()
        self._version = self._store.version
        if self._store.window:
            await self._store.window()
        return data

    async def create(self, data: Mapping[str, bytes]) -> bool:
        """Create the Secret unless it exists."""
        if self._store.data is not None:
            return False
        self._store.put(data)
        return True

    async def replace(self, data: Mapping[str, bytes]) -> bool:
        """Replace the Secret unless it has changed since it was read."""
        if self._store.version != self._version:
            return False
        self._store.put(data)
        return True


class Publisher:
    """Records the bundles that clients were made to trust."""

    def __init__(self) -> None:
        self.bundles: list[bytes] = []

    async def published(self) -> bytes:
        """Return the last one."""
        return self.bundles[-1] if self.bundles else b""

    async def publish(self, bundle: bytes) -> None:
        """Record the bundle."""
        self.bundles.append(bundle)


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


@contextlib.asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the code under test announces nothing to its tests
            await asyncio.sleep(0.001)


def held(store: Store) -> Authority:
    assert store.data is not None
    return Authority.from_secret(store.data)


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
    """The leaf is replaced with its authority, even where it was valid for long, and the new bundle trusts it."""
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
    """Whichever byte of the certificate is changed, the keeper goes on and ends with an authority that can sign."""
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
    """The former leaf is served until a second after; once it has expired there is nothing to wait for."""
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
