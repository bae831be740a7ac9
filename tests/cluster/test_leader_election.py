"""One controller leads, by a Lease in a real API server, however the Lease is lost."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from testbed.controlplane import ControlPlane
from testbed.controlplane.kubeconfig import Cluster as Kubeconfig
from testbed.ports import free_ports
from webhook.admission.server import Site, serving
from webhook.kube.client import KubeClient
from webhook.kube.kubeconfig import connect
from webhook.kube.leader_election import LeaderElector
from webhook.settings import Endpoint

MANIFESTS = Path(__file__).parents[2] / "manifests"
LEASE = ("ledgergate", "ledgergate-controller")
SECONDS = 3.0
GRACE = 2.0
"""Seconds that a change of leader may take beyond the Lease's duration: a try each second, and a request."""

LEADER = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from webhook.kube.kubeconfig import connect
from webhook.kube.leader_election import LeaderElector

async def lead():
    print("leads", flush=True)
    await asyncio.Event().wait()

async def main(kubeconfig, seconds):
    async with await connect(Path(kubeconfig), "test") as cluster:
        lease = ("ledgergate", "ledgergate-controller")
        await LeaderElector(cluster, lease, "process", timedelta(seconds=float(seconds))).run(lead)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def plane(programs: Path) -> Iterator[ControlPlane]:
    """A control plane for this module alone, to pause and kill."""
    with ControlPlane(programs) as started:
        for name in ("namespace", "roles-controller"):
            started.kubectl("apply", "--server-side", "-f", str(MANIFESTS / "chart/files/base" / f"{name}.yaml"))
        yield started


@pytest.fixture
def kubeconfig(plane: ControlPlane) -> Iterator[Path]:
    """A kubeconfig with the controller's rights; there is no Lease yet."""
    yield plane.kubeconfig_for("ledgergate", "controller")
    plane.kubectl("delete", "lease", LEASE[1], "-n", LEASE[0], "--ignore-not-found")


class Candidate:
    """A replica that tries to lead; its work only records its terms."""

    def __init__(self, cluster: KubeClient, name: str, seconds: float) -> None:
        self.name = name
        self.leadership = LeaderElector(cluster, LEASE, name, timedelta(seconds=seconds))
        self.leads = asyncio.Event()
        self.idle = asyncio.Event()
        self.terms: list[tuple[float, float]] = []
        self.failure: Exception | None = None
        self.lingers: asyncio.Event | None = None
        self.task = asyncio.create_task(self.leadership.run(self._work))

    async def _work(self) -> None:
        began = time.monotonic()
        self.leads.set()
        self.idle.clear()
        try:
            if self.failure is not None:
                raise self.failure
            await asyncio.Event().wait()
        finally:
            self.terms.append((began, time.monotonic()))
            self.leads.clear()
            self.idle.set()
            if self.lingers is not None:
                await self.lingers.wait()

    async def stop(self) -> None:
        """Cancel it, as SIGTERM does."""
        self.task.cancel()
        _, pending = await asyncio.wait({self.task}, timeout=10)
        assert not pending, "the cancellation was swallowed"


@asynccontextmanager
async def candidate(kubeconfig: Path, name: str, seconds: float = SECONDS) -> AsyncIterator[Candidate]:
    async with await connect(kubeconfig, "test") as cluster:
        found = Candidate(cluster, name, seconds)
        try:
            yield found
        finally:
            await found.stop()


async def leads(found: Candidate, within: float) -> float:
    """Wait until a candidate leads, and return the seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        await found.leads.wait()
    return time.monotonic() - began


def holder(plane: ControlPlane) -> str | None:
    """Return the name in the Lease."""
    found: str | None = _lease(plane).get("holderIdentity")
    return found


def apart(*candidates: Candidate) -> bool:
    """Return whether no two terms overlap."""
    terms = sorted(term for found in candidates for term in found.terms)
    return all(before[1] <= after[0] for before, after in pairwise(terms))


async def test_one_of_two_leads(plane: ControlPlane, kubeconfig: Path) -> None:
    """The first has its name in the Lease; the second waits while the first renews it."""
    async with candidate(kubeconfig, "one") as one, candidate(kubeconfig, "two") as two:
        await asyncio.wait(
            {asyncio.create_task(found.leads.wait()) for found in (one, two)}, return_when="FIRST_COMPLETED"
        )
        first, second = (one, two) if one.leads.is_set() else (two, one)
        assert first.leadership.is_leader
        assert await asyncio.to_thread(holder, plane) == first.name
        with pytest.raises(TimeoutError):
            await leads(second, SECONDS + GRACE)
        assert first.leads.is_set()
        assert not second.leadership.is_leader


async def test_a_leader_that_stops_releases_the_lease(plane: ControlPlane, kubeconfig: Path) -> None:
    """After a clean stop another leads long before the Lease of 30 s expires, and never two at once."""
    async with candidate(kubeconfig, "one", seconds=30) as one:
        await leads(one, 10)
        async with candidate(kubeconfig, "two", seconds=30) as two:
            await one.stop()
            assert not one.leadership.is_leader
            await leads(two, 10)
            assert await asyncio.to_thread(holder, plane) == "two"
        assert apart(one, two)
    assert await asyncio.to_thread(holder, plane) is None


async def test_a_leader_that_is_killed_is_replaced(kubeconfig: Path) -> None:
    """After SIGKILL another leads within the Lease's duration and two seconds."""
    command = [sys.executable, "-c", LEADER, str(kubeconfig), str(SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leader:  # noqa: ASYNC220 - its start is awaited
        try:
            assert leader.stdout is not None
            assert await asyncio.to_thread(leader.stdout.readline) == "leads\n"
            async with candidate(kubeconfig, "two") as two:
                with pytest.raises(TimeoutError):
                    await leads(two, GRACE)
                leader.kill()
                assert await leads(two, 30) <= SECONDS + GRACE
        finally:
            leader.kill()


async def test_the_lease_is_written_in_utc(plane: ControlPlane, kubeconfig: Path) -> None:
    """In any time zone the Lease's times are UTC, and renewing it does not shift them."""
    command = [sys.executable, "-c", LEADER, str(kubeconfig), "30"]
    elsewhere = {**os.environ, "TZ": "Asia/Tokyo"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=elsewhere) as leader:  # noqa: ASYNC220
        try:
            assert leader.stdout is not None
            assert await asyncio.to_thread(leader.stdout.readline) == "leads\n"
            first = await asyncio.to_thread(_renewed, plane)
            async with asyncio.timeout(20):
                while await asyncio.to_thread(_renewed, plane) == first:  # noqa: ASYNC110 - another process renews it
                    await asyncio.sleep(0.1)
            lease = _lease(plane)
            acquired, renewal = (datetime.fromisoformat(lease[name]) for name in ("acquireTime", "renewTime"))
        finally:
            leader.kill()
    assert abs(datetime.now(UTC) - renewal) < timedelta(minutes=5)
    assert timedelta() < renewal - acquired < timedelta(minutes=5)


async def test_a_replica_that_restarts_under_its_name_leads_at_once(plane: ControlPlane, kubeconfig: Path) -> None:
    """A replica that was killed and restarted under the same name need not wait for the Lease's expiry."""
    async with candidate(kubeconfig, "one", seconds=60) as one:
        await leads(one, 10)
        async with candidate(kubeconfig, "one", seconds=60) as again:
            await leads(again, 30)  # half of the Lease's duration, for which another replica would wait
            assert await asyncio.to_thread(holder, plane) == "one"


async def test_it_stops_while_a_term_ends(plane: ControlPlane, kubeconfig: Path) -> None:
    """SIGTERM ends the replica even while the work of a lost term is being cancelled."""
    async with candidate(kubeconfig, "one") as one:
        await leads(one, 10)
        one.lingers = asyncio.Event()
        thief = '{"spec": {"holderIdentity": "thief"}}'
        await asyncio.to_thread(plane.kubectl, "patch", "lease", LEASE[1], "-n", LEASE[0], "--type=merge", "-p", thief)
        await asyncio.wait_for(one.idle.wait(), SECONDS + 10)
        await one.stop()
        assert one.task.cancelled()


async def test_without_the_api_server_no_replica_leads(plane: ControlPlane, kubeconfig: Path) -> None:
    """In a pause longer than the Lease the leader stops in time; afterwards exactly one leads."""
    async with candidate(kubeconfig, "one") as one:
        await leads(one, 10)
        async with candidate(kubeconfig, "two") as two:
            plane.pause_apiserver()
            try:
                paused = time.monotonic()
                async with asyncio.timeout(30):
                    await one.idle.wait()
                assert time.monotonic() - paused <= SECONDS + GRACE
                assert not one.leadership.is_leader
                assert not two.leadership.is_leader
            finally:
                plane.resume_apiserver()
            async with asyncio.timeout(SECONDS + 10):
                waits = {asyncio.create_task(found.leads.wait()) for found in (one, two)}
                _, pending = await asyncio.wait(waits, return_when="FIRST_COMPLETED")
            for wait in pending:
                wait.cancel()
            assert one.leads.is_set() is not two.leads.is_set()
        await one.stop()
        assert apart(one, two)


async def test_a_short_outage_ends_no_term(plane: ControlPlane, kubeconfig: Path) -> None:
    """The API server is killed and restarted within the Lease's duration: the leader goes on leading."""
    async with candidate(kubeconfig, "one", seconds=40) as one:
        await leads(one, 10)
        plane.kill_apiserver()
        await asyncio.to_thread(plane.start_apiserver)
        before = await asyncio.to_thread(_renewed, plane)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(_renewed, plane) == before:  # noqa: ASYNC110 - the API server has no event here
                await asyncio.sleep(0.1)
        assert one.leads.is_set()
        assert one.terms == []


def _renewed(plane: ControlPlane) -> str:
    renewed: str = _lease(plane)["renewTime"]
    return renewed


def _lease(plane: ControlPlane) -> dict[str, Any]:
    found: dict[str, Any] = plane.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{LEASE[0]}/leases/{LEASE[1]}")[
        "spec"
    ]
    return found


async def test_work_that_fails_ends_the_replica(plane: ControlPlane, kubeconfig: Path) -> None:
    """A leader whose work has failed raises the error and releases the Lease."""
    async with candidate(kubeconfig, "one", seconds=30) as one:
        one.failure = ValueError("an internal error")
        with pytest.raises(ValueError, match="an internal error"):
            await asyncio.wait_for(one.task, 10)
        assert not one.leadership.is_leader
        assert await asyncio.to_thread(holder, plane) is None


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_an_answer_in_plain_text_is_a_failed_try(
    status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An overloaded API server, or a proxy, answers in plain text: the election tries again, and logs why once."""
    asked = asyncio.Semaphore(0)

    async def refuse(_: web.BaseRequest) -> web.Response:
        asked.release()
        return web.Response(status=status, text="Too many requests, please try again later.\n")

    (port,) = free_ports(1)
    kubeconfig = Kubeconfig(f"http://127.0.0.1:{port}", None).write_for_token(tmp_path / "config", "x", "default")
    async with serving(Site(refuse, Endpoint("127.0.0.1", port))), candidate(kubeconfig, "one") as one:
        for _ in range(3):
            await asyncio.wait_for(asked.acquire(), 10)
        errors = [record.fields["error"] for record in caplog.records if record.getMessage() == "leader.failed"]  # type: ignore[attr-defined]
        assert len(errors) == 1, "logged at every try"
        assert errors[0].startswith(f"{status}: ")
        assert not one.task.done(), one.task
        assert not one.leadership.is_leader
