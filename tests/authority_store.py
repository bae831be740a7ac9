"""A Secret in memory with the authority, and what a certificate is published to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from certs.secret import Authority, Unavailable

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
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - the code under test announces nothing to its tests
            await asyncio.sleep(0.001)


def held(store: Store) -> Authority:
    assert store.data is not None
    return Authority.from_secret(store.data)
