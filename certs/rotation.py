"""Keep certificates fresh: the authority in its Secret (controller), the leaf in memory (each webhook replica).

    controller: AuthorityKeeper    Secret -> authority, issued when missing or due -> bundle published to the clients
    webhook:    ServingCertificate Secret -> leaf, signed in memory -> SSL context of the running server

Exceptions, below `certs.authority.CertificateError`:

    CertificateError
    ├── Unavailable     the store or the publisher cannot be reached now; tried again
    └── Contended       others kept changing the Secret while we wanted to
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from certs import tls
from certs.authority import (
    CertificateError,
    KeyPair,
    Unreadable,
    issue_authority,
    issue_leaf,
    merge_bundle,
    read_certificate,
    read_pair,
    renewal_reason,
)
from certs.secret import Authority

AUTHORITY_LIFE = timedelta(days=365)
"""Renewed with 122 days left: so long may every controller be away before a certificate lapses."""

LEAF_LIFE = timedelta(days=7)
"""Renewed with 56 hours left. A leaf lives in memory only, so a new one costs nothing but the signature."""

PERIOD = timedelta(minutes=1)
"""How often the wall clock is asked. One long sleep until the date would be wrong after a suspended machine."""

RETRY = timedelta(seconds=1)
"""How soon to try again when the last try failed."""

CLOCK_SKEW = timedelta(hours=1)
"""How far a certificate's life starts in the past, for clients whose clock is late."""

ATTEMPTS = 5


class Unavailable(CertificateError):  # noqa: N818 - reads as the reason it is
    """The store or the publisher cannot be reached now. Implementations raise it `from` what they met."""


class Contended(CertificateError):  # noqa: N818 - reads as the reason it is
    """Others kept changing the Secret while we wanted to."""


class SecretStore(Protocol):
    """One Secret. Every method raises `Unavailable` when it cannot be reached."""

    async def read(self) -> Mapping[str, bytes] | None:
        """Return its decoded data; None while it does not exist."""

    async def create(self, data: Mapping[str, bytes]) -> bool:
        """Create it; False when somebody else did first."""

    async def replace(self, data: Mapping[str, bytes]) -> bool:
        """Replace what the last `read` returned; False when it has changed or gone since."""


class BundlePublisher(Protocol):
    """Whoever calls the server and must trust it."""

    async def publish(self, bundle: bytes) -> None:
        """Have every client trust exactly these authorities (PEM); writes nothing where that is so already.

        Raises:
            Unavailable: a client could not be told.
        """


def _ignore_seen(_expires_at: datetime) -> None: ...


def _ignore_issued(_reason: str, _expires_at: datetime) -> None: ...


def _ignore_failure(_error: CertificateError) -> None: ...


class AuthorityKeeper:
    """See to it that there is an authority, and that clients trust it. One controller, the leader, runs this.

    Args:
        store: the CA Secret.
        publisher: the webhook configurations.
        clock: the current time, with a time zone.
        common_name: the authority's name.
        life: how long a new authority lives.
        period: how often `run` looks.
        seen: called at each look with the authority's expiry, whoever issued it.
        issued: called with the reason and the expiry of each authority issued.
        failed: called with each failure of `run`; it goes on.
    """

    def __init__(
        self,
        store: SecretStore,
        publisher: BundlePublisher,
        *,
        clock: Callable[[], datetime],
        common_name: str = "ledgergate",
        life: timedelta = AUTHORITY_LIFE,
        period: timedelta = PERIOD,
        seen: Callable[[datetime], None] = _ignore_seen,
        issued: Callable[[str, datetime], None] = _ignore_issued,
        failed: Callable[[CertificateError], None] = _ignore_failure,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._seen = seen
        self._clock = clock
        self._common_name = common_name
        self._life = life
        self._period = period
        self._issued = issued
        self._failed = failed
        self._nudge = asyncio.Event()
        self._expires_at: datetime | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When the authority expires; None until it was seen."""
        return self._expires_at

    def changed(self) -> None:
        """Have `run` look at once."""
        self._nudge.set()

    async def run(self) -> None:
        """Keep the authority fresh until cancelled."""
        while True:
            rest = self._period
            try:
                await self.ensure(self._clock())
            except CertificateError as error:
                self._failed(error)
                rest = min(RETRY, rest)
            await _rest(self._nudge, rest)

    async def ensure(self, now: datetime) -> bytes:
        """Issue the authority when it is missing or due, publish the bundle and return it (PEM).

        Args:
            now: the time to judge at, with a time zone.

        Raises:
            Unavailable: the store or the publisher cannot be reached.
            Contended: the Secret was changed by others again and again.
        """
        for _ in range(ATTEMPTS):
            data = await self._store.read()
            held = None if data is None else Authority.from_secret(data)
            reason = renewal_reason(held.pair if held else None, now=now)
            wanted = self._wanted(held, reason, now)
            # Trusted before it signs: webhooks change to the new authority as soon as the Secret holds it.
            await self._publisher.publish(wanted.bundle)
            if wanted == held or await self._write(held, wanted):
                self._expires_at = read_certificate(wanted.pair.certificate).not_valid_after_utc
                self._seen(self._expires_at)
                if reason is not None:
                    self._issued(reason, self._expires_at)
                return wanted.bundle
        raise Contended(
            f"the CA Secret was changed by others {ATTEMPTS} times in a row; tried again soon; "
            "only the leading controller should write it"
        )

    def _wanted(self, held: Authority | None, reason: str | None, now: datetime) -> Authority:
        if held is None or reason is not None:
            pair = issue_authority(self._common_name, not_before=now - CLOCK_SKEW, not_after=now + self._life)
        else:
            pair = held.pair
        return Authority(pair, merge_bundle(pair.certificate, held.bundle if held else b"", now=now))

    async def _write(self, held: Authority | None, wanted: Authority) -> bool:
        if held is None:
            return await self._store.create(wanted.to_secret())
        return await self._store.replace(wanted.to_secret())


class ServingCertificate:
    """Sign a short-lived leaf in memory and have a running server present it. Each webhook replica has its own.

    Args:
        store: the CA Secret, only ever read.
        names: DNS names and IP addresses that clients call the server by.
        clock: the current time, with a time zone.
        life: how long a new leaf lives; never longer than its authority.
        period: how often `run` looks.
        issued: called with the reason and the expiry of each leaf issued.
        failed: called with each failure of `run`; it goes on with the leaf it has.
    """

    def __init__(
        self,
        store: SecretStore,
        names: Sequence[str],
        *,
        clock: Callable[[], datetime],
        life: timedelta = LEAF_LIFE,
        period: timedelta = PERIOD,
        issued: Callable[[str, datetime], None] = _ignore_issued,
        failed: Callable[[CertificateError], None] = _ignore_failure,
    ) -> None:
        self._store = store
        self._names = tuple(names)
        self._clock = clock
        self._life = life
        self._period = period
        self._issued = issued
        self._failed = failed
        self._nudge = asyncio.Event()
        self._context = tls.server_context()
        self._leaf: KeyPair | None = None
        self._expires_at: datetime | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """The context to serve with: one for the server's whole life, each handshake gets the newest leaf."""
        return self._context

    @property
    def expires_at(self) -> datetime | None:
        """When the leaf expires; None until there is one."""
        return self._expires_at

    @property
    def ready(self) -> bool:
        """Whether there is a leaf, and it has not expired."""
        return self._expires_at is not None and self._clock() < self._expires_at

    @property
    def origin(self) -> str:
        """Where the certificate comes from, for those who wait for it."""
        return "the controller to make the CA Secret"

    def changed(self) -> None:
        """Have `run` look at once."""
        self._nudge.set()

    async def run(self) -> None:
        """Keep the leaf fresh until cancelled; look often while there is none."""
        while True:
            try:
                await self.refresh(self._clock())
            except CertificateError as error:
                self._failed(error)
            await _rest(self._nudge, self._period if self.ready else min(RETRY, self._period))

    async def refresh(self, now: datetime) -> None:
        """Read the authority, and sign a leaf when one is due; nothing happens while there is no authority.

        Args:
            now: the time to judge at, with a time zone.

        Raises:
            Unavailable: the Secret cannot be read.
            Unreadable: the Secret's content cannot be used; the leaf stays as it is.
        """
        data = await self._store.read()
        if data is None:
            return
        authority = Authority.from_secret(data).pair
        reason = renewal_reason(self._leaf, now=now, names=self._names, authority=authority.certificate)
        if reason is not None:
            self._expires_at = self._serve(self._sign(authority, now))
            self._issued(reason, self._expires_at)

    def _sign(self, authority: KeyPair, now: datetime) -> KeyPair:
        try:
            end = min(now + self._life, _usable_until(authority, now))
            return issue_leaf(authority, self._names, not_before=now - CLOCK_SKEW, not_after=end)
        except Unreadable as error:
            raise Unreadable(
                f"the authority in the CA Secret cannot sign: {error}; the leading controller issues another"
            ) from error

    def _serve(self, leaf: KeyPair) -> datetime:
        tls.serve(self._context, leaf)
        self._leaf = leaf
        return read_certificate(leaf.certificate).not_valid_after_utc


def _usable_until(authority: KeyPair, now: datetime) -> datetime:
    certificate, _ = read_pair(authority)
    end = certificate.not_valid_after_utc
    if end <= now:
        raise Unreadable(f"it expired at {end:%Y-%m-%dT%H:%M:%SZ}")
    return end


async def _rest(nudge: asyncio.Event, period: timedelta) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(period.total_seconds()):
            await nudge.wait()
    nudge.clear()
