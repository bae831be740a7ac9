"""Leader election by a Lease: of several controllers one works. The algorithm is kubernetes_asyncio's.

https://kubernetes.io/docs/concepts/architecture/leases/#leader-election
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import aiohttp
from kubernetes_asyncio.client import ApiClient
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.leaderelection.electionconfig import Config
from kubernetes_asyncio.leaderelection.leaderelection import LeaderElection
from kubernetes_asyncio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes_asyncio.leaderelection.resourcelock.leaselock import LeaseLock

from webhook.kube.client import KubeClient
from webhook.kube.errors import ClusterError
from webhook.telemetry import log_event

RETRY_SECONDS = 1.0
"""Time between two tries to take or renew the Lease, and the longest that one try may take."""

END_SECONDS = 60.0
"""How long the work may take to end after the Lease is lost; far more than it needs."""

SILENCE_SECONDS = 10.0
"""How long a replica may be without an answer about the Lease before it reports that it is not ready."""


class _TolerantLeaseLock(LeaseLock):
    """A LeaseLock for which an API server that does not answer is a failed try.

    The library's lock lets aiohttp's exceptions through, which ends the election. The cause of a failed try is logged
    when it changes; otherwise a missing right would keep every replica waiting without a sign.
    """

    def __init__(
        self, name: str, namespace: str, identity: str, client: ApiClient, on_answer: Callable[[], None]
    ) -> None:
        super().__init__(name, namespace, identity, client)
        self._failures: dict[str, str] = {}
        self._on_answer = on_answer

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                found, answer = await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            found, answer = False, ApiException(HTTPStatus.SERVICE_UNAVAILABLE, str(error) or type(error).__name__)
        if not isinstance(answer, ApiException) or answer.status == HTTPStatus.NOT_FOUND:
            self._on_answer()
        if not isinstance(answer, ApiException):
            self._log_change("read", "")
            return found, answer
        self._log_change("read", "" if answer.status == HTTPStatus.NOT_FOUND else f"{answer.status}: {answer.reason}")
        # The election reads the code from a JSON body, but an overloaded API server answers in plain text.
        return False, _with_json_body(answer.status or 0, answer.reason or "")

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        return await self._write(super().create(name, namespace, election_record))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        return await self._write(super().update(name, namespace, updated_record))

    def _log_change(self, what: str, failure: str) -> None:
        if failure and failure != self._failures.get(what):
            log_event("leader.failed", level=logging.WARNING, what=f"{what} the Lease", error=failure)
        self._failures[what] = failure

    # The election uses local time without a zone, and the library writes that into the Lease as if it were UTC. These
    # two methods convert it, so that replicas in different zones, and kubectl, see the true time.

    def time_str_to_iso(self, str_time: str) -> str:
        return f"{datetime.fromisoformat(str_time).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

    def election_record(self, lease: Any) -> LeaderElectionRecord:
        record: LeaderElectionRecord = super().election_record(lease)
        for name in ("acquire_time", "renew_time"):
            written = getattr(lease.spec, name, None)
            if written is not None:
                setattr(record, name, str(written.astimezone().replace(tzinfo=None)))
        return record

    async def _write(self, attempt: Coroutine[Any, Any, bool]) -> bool:
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                written = await attempt
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._log_change("write", str(error) or type(error).__name__)
            return False
        self._log_change("write", "" if written else "refused, or another replica was first")
        return written


def _with_json_body(status: int, reason: str) -> ApiException:
    error = ApiException(status=status, reason=reason)
    error.body = json.dumps({"code": status}).encode()
    return error


class LeaderElector:
    """Runs a coroutine while, and only while, this replica holds the Lease.

    Args:
        lease: namespace and name of the Lease.
        identity: this replica's name in the Lease.
        duration: how long the Lease of a leader that has died keeps the other replicas from leading.
    """

    def __init__(self, cluster: KubeClient, lease: tuple[str, str], identity: str, duration: timedelta) -> None:
        self._cluster = cluster
        self._lease = lease
        self._identity = identity
        self._duration = round(duration.total_seconds())  # a Lease counts whole seconds
        self.is_leader = False
        self._answered_at: float | None = None
        # The library logs once a second that it is a follower; what matters is logged here.
        logging.getLogger("kubernetes_asyncio.leaderelection").setLevel(logging.CRITICAL)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, work while it is held, and wait again when it is lost; until cancelled.

        When it is cancelled, it releases a Lease that it holds, so that the next leader need not wait for its expiry.
        An exception that the work raises is raised here.
        """
        try:
            while True:
                await self._term(work)
        finally:
            if self.is_leader:
                await asyncio.shield(self._release_lease())

    @property
    def problem(self) -> str:
        """Why this replica can neither lead nor take over; empty where it can."""
        if self._answered_at is None:
            return "the Lease has not been read yet"
        silent = asyncio.get_running_loop().time() - self._answered_at
        return f"the Lease cannot be read, for {silent:.0f} s" if silent > SILENCE_SECONDS else ""

    def _note_answer(self) -> None:
        self._answered_at = asyncio.get_running_loop().time()

    async def _term(self, work: Callable[[], Awaitable[None]]) -> None:
        namespace, name = self._lease
        lock = _TolerantLeaseLock(name, namespace, self._identity, self._cluster.client, self._note_answer)
        worker: asyncio.Task[None] | None = None

        async def lead() -> None:
            nonlocal worker
            self.is_leader = True
            log_event("leader.elected", identity=self._identity)
            worker = asyncio.current_task()
            await work()

        async def on_lost() -> None:
            self.is_leader = False
            log_event("leader.lost", level=logging.WARNING, identity=self._identity)

        election = LeaderElection(
            Config(
                lock,
                lease_duration=self._duration,
                # A leader that cannot renew gives up before another replica may take the Lease.
                renew_deadline=self._duration * 0.7,
                retry_period=RETRY_SECONDS,
                onstarted_leading=lead,
                onstopped_leading=on_lost,
            )
        )
        running = asyncio.create_task(election.run())
        try:
            # The library does not watch the work: it would renew the Lease for work that has failed, and no replica
            # would do it. So both are watched here. The worker appears only once the Lease is taken, hence the timeout.
            while not running.done():
                await asyncio.wait(
                    [running, *([worker] if worker else [])], timeout=RETRY_SECONDS, return_when="FIRST_COMPLETED"
                )
                if worker is not None and worker.done() and not worker.cancelled():
                    worker.result()
                    return
            running.result()
        finally:
            await _cancel(running, worker)

    async def _release_lease(self) -> None:
        """Remove this replica's name from the Lease, as client-go does with ReleaseOnCancel; the library cannot."""
        self.is_leader = False
        namespace, name = self._lease
        holder = "/spec/holderIdentity"
        # The test keeps a Lease that another replica has taken by now.
        patch = [{"op": "test", "path": holder, "value": self._identity}, {"op": "remove", "path": holder}]
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        with suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._cluster.request("PATCH", path, body=patch, content="json-patch")
            log_event("leader.resigned", identity=self._identity)


async def _cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they have ended, however they end; a cancellation of the caller is not swallowed.

    Raises:
        RuntimeError: One does not end. With it going on, this replica could not lead again, so the process has to end.
    """
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    ended, stuck = await asyncio.wait(running, timeout=END_SECONDS)
    if stuck:
        raise RuntimeError(f"what ran while this replica led does not end, {END_SECONDS:g} s after it was cancelled")
    for task in ended:
        _ = task.cancelled() or task.exception()  # retrieved, or asyncio would log that it never was
