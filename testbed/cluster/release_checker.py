"""Uses a database as the pods that run at each moment would, in a thread beside a test.

with ReleaseChecker(application, "app=gateway", database, {"1": use_old, "2": use_new}) as checker:
    application.plane.apply(deployment)
assert checker.errors == []
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from testbed.cluster.application import Application

    Connection = asyncpg.Connection[asyncpg.Record]
    Use = Callable[[Connection], Awaitable[None]]

RELEASE = "release"
"""Label of a pod with the version of the application that it runs."""

PACE = 0.05
"""Seconds from one look at the pods to the next."""
START_TIMEOUT = 120.0


def label(pod: dict[str, Any]) -> str:
    """Return the version of the application that a pod runs, by its label `release`."""
    release: str = pod["metadata"]["labels"][RELEASE]
    return release


class ReleaseChecker:
    """Asks the API server which pods run, and uses the database as each of their versions does, 20 times a second.

    The pods are listed before each use. A pod may end between the list and the use, but its schema is not removed in
    that time: the migrator that removes it must first be released, scheduled and started. So each error belongs to a
    pod that ran.

    Args:
        application: the one whose pods are listed.
        selector: their labels, as `kubectl get -l` takes them.
        database: URL that the pods use.
        uses: what a version does with the database, by its name; raises if the schema does not fit the version.
        version: returns the name of the version that a pod runs.
    """

    def __init__(
        self,
        application: Application,
        selector: str,
        database: str,
        uses: Mapping[str, Use],
        version: Callable[[dict[str, Any]], str] = label,
    ) -> None:
        self._application = application
        self._selector = selector
        self._version = version
        self._database = database
        self._uses = uses
        self._stopped = threading.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self.errors: list[str] = []
        """What went wrong for a version while a pod of it ran."""
        self.asked: Counter[str] = Counter()
        """How often the database was used as each version."""
        self.together: Counter[tuple[str, ...]] = Counter()
        """How often each set of versions ran at the same time."""
        self.slowest = 0.0
        """Seconds of the longest use, mostly spent behind a migration's lock."""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT):
            raise TimeoutError("the checker did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()
        if error is None and self._failure is not None:
            raise RuntimeError("the checker failed") from self._failure

    def running(self) -> list[str]:
        """Return the releases whose pods run now, terminating pods among them, oldest first; one entry a pod."""
        pods = self._application.objects("v1", "pods", labelSelector=self._selector)
        return sorted(self._version(pod) for pod in pods if pod["status"].get("phase") == "Running")

    def _work(self) -> None:
        try:
            asyncio.run(self._check())
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            self._failure = error
        finally:
            self._started.set()

    async def _check(self) -> None:
        connection = await asyncpg.connect(self._database)
        try:
            self._started.set()
            while not self._stopped.is_set():
                began = time.monotonic()
                releases = tuple(dict.fromkeys(await asyncio.to_thread(self.running)))
                self.together[releases] += 1
                for release in releases:
                    await self._use(connection, release)
                await asyncio.sleep(max(0.0, PACE - (time.monotonic() - began)))
        finally:
            await connection.close()

    async def _use(self, connection: Connection, release: str) -> None:
        began = time.monotonic()
        self.asked[release] += 1
        try:
            await self._uses[release](connection)
        except (asyncpg.PostgresError, AssertionError) as error:
            self.errors.append(f"release {release}: {error!r}")
        self.slowest = max(self.slowest, time.monotonic() - began)
