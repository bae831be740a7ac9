"""Be the one controller that acts, by a Lease; the election itself is kubernetes-asyncio's.

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


class _TolerantLeaseLock(LeaseLock):
    """A LeaseLock to which an API server without an answer is a failed try, as it is to the election, not a crash.

    What a try fails of is logged when it changes: a right that is missing would keep everybody waiting in silence.
    """

    def __init__(self, name: str, namespace: str, identity: str, client: ApiClient) -> None:
        super().__init__(name, namespace, identity, client)
        self._failures: dict[str, str] = {}

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                found, answer = await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            found, answer = False, ApiException(HTTPStatus.SERVICE_UNAVAILABLE, str(error) or type(error).__name__)
        if not isinstance(answer, ApiException):
            self._note("read", "")
            return found, answer
        self._note("read", "" if answer.status == HTTPStatus.NOT_FOUND else f"{answer.status}: {answer.reason}")
        # An overloaded API server answers in plain text, in which the election would look for a code in vain.
        return False, _refusal(answer.status or 0, answer.reason or "")

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        return await self._patiently(super().create(name, namespace, election_record))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        return await self._patiently(super().update(name, namespace, updated_record))

    def _note(self, what: str, failure: str) -> None:
        if failure and failure != self._failures.get(what):
            log_event("leader.failed", level=logging.WARNING, what=f"{what} the Lease", error=failure)
        self._failures[what] = failure

    # The election thinks in local time without a zone, which the library writes into the Lease as if it were UTC.

    def time_str_to_iso(self, str_time: str) -> str:
        return f"{datetime.fromisoformat(str_time).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

    def election_record(self, lease: Any) -> LeaderElectionRecord:
        record: LeaderElectionRecord = super().election_record(lease)
        for name in ("acquire_time", "renew_time"):
            written = getattr(lease.spec, name, None)
            if written is not None:
                setattr(record, name, str(written.astimezone().replace(tzinfo=None)))
        return record

    async def _patiently(self, attempt: Coroutine[Any, Any, bool]) -> bool:
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                written = await attempt
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._note("write", str(error) or type(error).__name__)
            return False
        self._note("write", "" if written else "refused, or another replica was first")
        return written


def _refusal(status: int, reason: str) -> ApiException:
    failure = ApiException(status=status, reason=reason)
    failure.body = json.dumps({"code": status}).encode()
    return failure


class LeaderElector:
    """Run something while, and only while, we hold the Lease.

    Args:
        cluster: where the Lease is.
        lease: namespace and name of the Lease.
        identity: what we are called in it.
        duration: how long a dead leader's Lease keeps others out.
    """

    def __init__(self, cluster: KubeClient, lease: tuple[str, str], identity: str, duration: timedelta) -> None:
        self._cluster = cluster
        self._lease = lease
        self._identity = identity
        self._duration = round(duration.total_seconds())  # a Lease counts whole seconds
        self.held = False
        # Its "I am a follower" once a second is no news; what matters we log ourselves.
        logging.getLogger("kubernetes_asyncio.leaderelection").setLevel(logging.CRITICAL)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, work under it, and wait again when it is lost; until cancelled.

        On the way out a Lease that we hold is given back, so that the next replica need not wait for its end.
        An exception of the work's own is raised here.
        """
        try:
            while True:
                await self._term(work)
        finally:
            if self.held:
                await asyncio.shield(self._give_back())

    async def _term(self, work: Callable[[], Awaitable[None]]) -> None:
        namespace, name = self._lease
        lock = _TolerantLeaseLock(name, namespace, self._identity, self._cluster.client)
        worker: asyncio.Task[None] | None = None

        async def lead() -> None:
            nonlocal worker
            self.held = True
            log_event("leader.elected", identity=self._identity)
            worker = asyncio.current_task()
            await work()

        async def stop() -> None:
            self.held = False
            log_event("leader.lost", level=logging.WARNING, identity=self._identity)

        election = LeaderElection(
            Config(
                lock,
                lease_duration=self._duration,
                renew_deadline=self._duration * 0.7,
                retry_period=RETRY_SECONDS,
                onstarted_leading=lead,
                onstopped_leading=stop,
            )
        )
        running = asyncio.create_task(election.run())
        try:
            # The library would go on renewing for work that has failed: a leader that does nothing.
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

    async def _give_back(self) -> None:
        """Take our name out of the Lease, as client-go does with ReleaseOnCancel; the library cannot."""
        self.held = False
        namespace, name = self._lease
        holder = "/spec/holderIdentity"
        patch = [{"op": "test", "path": holder, "value": self._identity}, {"op": "remove", "path": holder}]
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        with suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._cluster.request("PATCH", path, body=patch, content="json-patch")
            log_event("leader.resigned", identity=self._identity)


async def _cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and see them end, whatever they end with; our own cancellation passes through."""
    live = [task for task in tasks if task is not None]
    for task in live:
        task.cancel()
    await asyncio.gather(*live, return_exceptions=True)
