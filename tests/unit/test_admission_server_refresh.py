"""Many reviews and one slow ledger: all that find the cache behind share one read of the database."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import pytest

from migrations.core.ledger import Record
from migrations.core.snapshot import LedgerSnapshot
from migrations.dialects.native import NATIVE
from migrations.postgres.address import Address
from migrations.reader.reader import LedgerSource
from migrations.reader.watcher import LedgerWatcher, PollIntervals
from testbed.controlplane.processes import free_ports
from webhook.admission.handlers import Admission
from webhook.admission.review import decode_review
from webhook.admission.server import AdmissionServer, serving
from webhook.api.objects import Pod
from webhook.core.gate import Gate
from webhook.core.selector import Selector
from webhook.settings import Endpoint
from webhook.telemetry import Telemetry

REVIEWS = 200
SLOW = 0.3  # seconds, as in the view

# A slow ledger: every read of it sleeps.
TABLE = """
create table rows (
    revision text, state text, checksum text, batch int, compatible_from text, error text,
    started_at timestamptz, finished_at timestamptz, duration_ms bigint, applied_by text
);
create view ledgergate_migrations as select rows.* from pg_sleep(0.3) as slow left join rows on true;
insert into rows (revision, state, applied_by) values ('a', 'applied', 'x');
"""
APPLY = "insert into rows (revision, state, applied_by) values ('b', 'applied', 'x')"


@dataclass
class Watched:
    """One gate over a real watcher of a real database."""

    watcher: LedgerWatcher
    synced: bool = True

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the one gate."""
        del labels
        return [Gate(namespace, "app", Selector(), "pg", "ledgergate")]

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return the watcher's snapshot."""
        del gate
        return self.watcher.snapshot

    async def refresh(self, gates: Iterable[Gate], within: float) -> None:
        """Read the ledger again."""
        del gates
        await self.watcher.refresh(within)


def review(number: int) -> bytes:
    pod = {"metadata": {"annotations": {"ledgergate.dev/revision": "b"}}, "spec": {"containers": []}}
    request = {"uid": f"u-{number}", "operation": "CREATE", "namespace": "ns", "object": pod}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


async def until(probe: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not probe():  # noqa: ASYNC110 - the watcher tells its changes only
            await asyncio.sleep(0.01)


@pytest.fixture
def counted() -> list[float]:
    """Return the times at which reads of the ledger ended."""
    return []


async def test_reviews_share_one_read(database: str, counted: list[float]) -> None:
    """200 reviews at once while a read takes 300 ms: one read answers all of them."""
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)

    def record(row: Mapping[str, Any]) -> Record:
        if row["revision"] == "a":
            counted.append(time.monotonic())
        return NATIVE.record(row)

    source = LedgerSource(Address.from_url(database), replace(NATIVE, record=record))
    quiet = PollIntervals(urgent=60, idle=60, slowest=60, timeout=10)
    watcher = LedgerWatcher(source, on_change=lambda _: None, intervals=quiet)
    view, telemetry = Watched(watcher), Telemetry()
    server = AdmissionServer(Admission(view, view, lambda: datetime.now(UTC), refresh_timeout=20), view, telemetry)
    (port,) = free_ports(1)
    watching = asyncio.create_task(watcher.run())
    url = f"http://127.0.0.1:{port}/mutate"
    connector = aiohttp.TCPConnector(limit=REVIEWS)

    async def ask(session: aiohttp.ClientSession, number: int) -> dict[str, Any]:
        async with session.post(url, data=review(number), headers={"Content-Type": "application/json"}) as response:
            found: dict[str, Any] = json.loads(await response.read())["response"]
            return found

    try:
        async with (
            serving((server.application, Endpoint("127.0.0.1", port), None)),
            aiohttp.ClientSession(connector=connector) as session,
        ):
            await until(lambda: watcher.snapshot.ledger)
            await connection.execute(APPLY)
            counted.clear()
            began = time.monotonic()
            answers = await asyncio.gather(*(ask(session, number) for number in range(REVIEWS)))
            took = time.monotonic() - began
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await connection.close()
    # A read answers all reviews that asked before it began; their arrival may be spread over more than one read.
    assert len(counted) <= took / SLOW + 2
    assert len(counted) < REVIEWS / 10
    assert [answer["uid"] for answer in answers] == [f"u-{number}" for number in range(REVIEWS)]
    assert all("patch" not in answer for answer in answers), "a stale cache held a pod"


async def test_patience_ends(database: str) -> None:
    """A database slower than our patience does not make the API server wait: the pod is held, for now."""
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)
    watcher = LedgerWatcher(LedgerSource(Address.from_url(database), NATIVE), on_change=lambda _: None)
    view = Watched(watcher)
    admission = Admission(view, view, lambda: datetime.now(UTC), refresh_timeout=0.05)
    watching = asyncio.create_task(watcher.run())
    try:
        await until(lambda: watcher.snapshot.ledger)
        began = time.monotonic()
        answer = await admission.mutate(decode_review(review(1), Pod))
        assert answer.result == "held"
        assert time.monotonic() - began < SLOW
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await connection.close()
