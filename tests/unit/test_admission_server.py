"""The admission server over real sockets: it answers every broken request, and goes on serving."""

import asyncio
import gzip
import io
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from certs import tls
from certs.pki import issue_authority, issue_leaf
from migrations.core.ledger import Ledger, Record, State
from migrations.core.snapshot import LedgerSnapshot
from testbed.ports import free_ports
from webhook.admission.bodies import BODY_LIMIT
from webhook.admission.handlers import Admission
from webhook.admission.server import AdmissionServer, Site, drain, probes, serving
from webhook.core.gate import Gate
from webhook.core.selector import Selector
from webhook.settings import Endpoint
from webhook.telemetry import Telemetry

MANIFEST = Path(__file__).parents[2] / "manifests/chart/files/base/admission.yaml"
NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
JSON = "application/json"


@dataclass
class Known:
    """One gate whose ledger has revision `a`; a test can make it unsynced, or raise."""

    synced: bool = True
    broken: bool = False
    selector: Selector = field(default_factory=Selector)

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Gate]:
        """Return the one gate, if it selects the labels."""
        if self.broken:
            raise RuntimeError("a slip")
        return [Gate(namespace, "app", self.selector, "pg", "ledgergate")] if self.selector.matches(labels) else []

    def snapshot(self, gate: Gate) -> LedgerSnapshot:
        """Return the one ledger."""
        del gate
        return LedgerSnapshot(Ledger.of([Record("a", State.APPLIED)]), NOW)


@dataclass
class Running:
    """A running server and a client of it."""

    base: str
    session: aiohttp.ClientSession
    view: Known
    server: AdmissionServer
    telemetry: Telemetry
    ready: list[str] = field(default_factory=list)

    async def post(self, body: Any, path: str = "/validate", **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        """Post a body, and return the answer's status, body and headers."""
        given = {"Content-Type": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
        data = io.BytesIO(body) if isinstance(body, bytes) else body  # aiohttp warns of large plain bytes
        async with self.session.post(f"{self.base}{path}", data=data, headers=given) as response:
            return response.status, await response.read(), response.headers

    async def serves(self) -> bool:
        """Return whether a good review gets its answer."""
        status, body, _ = await self.post(review())
        return status == 200 and json.loads(body)["response"] == {"uid": "u-1", "allowed": True}

    def counted(self, **labels: str) -> float:
        """Return how many requests were counted with these labels."""
        found = self.telemetry.registry.get_sample_value("ledgergate_admission_requests_total", labels)
        return found or 0.0


def review(revision: str = "a", version: str = "v1", **request: Any) -> bytes:
    pod = {"metadata": {"annotations": {"ledgergate.dev/revision": revision}}, "spec": {"containers": []}}
    whole = {"uid": "u-1", "operation": "CREATE", "namespace": "ns", "object": pod, **request}
    return json.dumps(
        {"apiVersion": f"admission.k8s.io/{version}", "kind": "AdmissionReview", "request": whole}
    ).encode()


@asynccontextmanager
async def running(context: ssl.SSLContext | None = None, trust: ssl.SSLContext | bool = True) -> AsyncIterator[Running]:
    view, telemetry = Known(), Telemetry()
    server = AdmissionServer(Admission(view, view, lambda: NOW), view, telemetry)
    (port,) = free_ports(1)
    scheme = "http" if context is None else "https"
    connector = aiohttp.TCPConnector(ssl=trust)
    async with (
        serving(Site(server.handle, Endpoint("127.0.0.1", port), context)),
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session,
    ):
        yield Running(f"{scheme}://127.0.0.1:{port}", session, view, server, telemetry)


@pytest.fixture
async def site() -> AsyncIterator[Running]:
    async with running() as found:
        yield found


async def chunks(total: int) -> AsyncIterator[bytes]:
    """Yield a body without a declared length."""
    for _ in range(total // 2**16):
        yield b" " * 2**16


PADDED = review() + b" " * (BODY_LIMIT - len(review()))
DEEP = review()[:-1] + b',"extra":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
REFUSED = {
    "empty": (b"", JSON, 400),
    "not JSON": (b"hello", JSON, 400),
    "cut short": (review()[:-10], JSON, 400),
    "another object": (b'{"apiVersion": "v1", "kind": "Pod"}', JSON, 400),
    "v1beta1": (review(version="v1beta1"), JSON, 400),
    "no request": (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', JSON, 400),
    "empty uid": (review(uid=""), JSON, 400),
    "null uid": (review(uid=None), JSON, 400),
    "null object": (review(object=None), JSON, 400),
    "no namespace": (review(namespace=""), JSON, 400),
    "an endless kind": (review().replace(b"AdmissionReview", b"x" * 100_000), JSON, 400),
    "null object of a deletion": (review(object=None, operation="DELETE"), JSON, 400),
    "invalid UTF-8": (review().replace(b"u-1", b"\xff\xff"), JSON, 400),
    "bottomless": (DEEP, JSON, 400),
    "huge number": (review(object={"metadata": {"generation": 7}}).replace(b"7", b"7" * 10_000), JSON, 400),
    "no compression after all": (review(), JSON, 400),
    "YAML": (review(), "application/yaml", 415),
    "a form": (review(), "application/x-www-form-urlencoded", 415),
    "8 MiB": (b" " * 2**23, JSON, 413),
    "one byte too many": (PADDED + b" ", JSON, 413),
}


PATHS = {
    "/mutate": "hold",
    "/mutate/wait": "wait",
    "/validate": "verdict",
    "/validate/relabel": "relabel",
    "/validate/deny": "deny",
    "/validate/audit": "audit",
    "/validate-gate": "bypass",
    "/validate-workload": "workload",
    "/validate-workload/audit": "workload-audit",
}


def test_every_webhook_of_the_manifests_has_its_path() -> None:
    """Each webhook calls a path that is served, and is counted under its own name."""
    found = {
        hook["clientConfig"]["service"]["path"]: hook["name"].removesuffix(".ledgergate.dev")
        for configuration in yaml.safe_load_all(MANIFEST.read_text())
        for hook in configuration["webhooks"]
    }
    assert found == PATHS


@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_that_cannot_be_read_is_refused(name: str, site: Running) -> None:
    """The answer has the contract's status and a plain reason; it is counted, and the next review is answered."""
    body, content_type, expected = REFUSED[name]
    encoding = {"Content_Encoding": "gzip"} if "compression" in name else {}
    for path, of in PATHS.items():
        webhook = f"{of}.ledgergate.dev"
        status, text, headers = await site.post(body, path, Content_Type=content_type, **encoding)
        assert status == expected, text
        assert headers["Content-Type"].startswith("text/plain")
        assert text.strip()
        assert len(text) < 300
        assert site.counted(webhook=webhook, outcome="error", reason=str(expected)) == 1
    assert await site.serves()


async def test_a_body_at_the_limit_is_read(site: Running) -> None:
    """Two objects of 3 MiB, and what is around them, fit."""
    status, _, _ = await site.post(PADDED)
    assert status == 200


async def test_a_body_without_end_is_cut_off(site: Running) -> None:
    """Neither a missing length nor compression brings more than the limit into memory."""
    status, _, _ = await site.post(chunks(2**24))
    assert status == 413
    status, _, _ = await site.post(gzip.compress(b" " * 2**25), Content_Encoding="gzip")
    assert status == 413
    assert await site.serves()


async def test_a_compressed_review_is_read(site: Running) -> None:
    """The API server may compress a request; the answer is the same."""
    status, _, _ = await site.post(gzip.compress(review()), Content_Encoding="gzip")
    assert status == 200


async def test_the_content_type_may_have_parameters(site: Running) -> None:
    """A charset changes nothing."""
    status, _, _ = await site.post(review(), Content_Type="application/json; charset=utf-8")
    assert status == 200


async def test_a_client_that_goes_away_does_no_harm(site: Running) -> None:
    """After a request that ends in the middle, or is not HTTP, the server answers the next one."""
    host, port = site.base.removeprefix("http://").split(":")
    head = b"POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    for bytes_ in (head, b"\x16\x03\x01 no HTTP at all\r\n\r\n", b""):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(bytes_)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert await site.serves()
    async with asyncio.timeout(30):
        while site.telemetry.in_flight._value.get():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)


async def test_other_paths_and_methods_are_refused(site: Running) -> None:
    """The admission port answers nothing else."""
    async with site.session.get(f"{site.base}/validate") as response:
        assert response.status == 405
    async with site.session.get(f"{site.base}/metrics") as response:
        assert response.status == 404
    status, _, _ = await site.post(review(), "/other")
    assert status == 404


async def test_verdicts_are_answered_with_200(site: Running) -> None:
    """Allowed or not, a review that was decided gets 200, and is counted by outcome and reason."""
    status, body, headers = await site.post(review("b"))
    answer = json.loads(body)["response"]
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, JSON)
    assert (answer["uid"], answer["allowed"], answer["status"]["code"]) == ("u-1", False, 403)
    assert "the pod expects b" in answer["status"]["message"]
    assert site.counted(webhook="verdict.ledgergate.dev", outcome="denied", reason="Behind") == 1
    status, body, _ = await site.post(review("b"), "/mutate")
    assert json.loads(body)["response"]["patchType"] == "JSONPatch"
    assert site.counted(webhook="hold.ledgergate.dev", outcome="held", reason="Behind") == 1


async def test_each_webhook_is_counted_under_its_name(site: Running) -> None:
    """The path decides which webhook answers a review, and under which name it is counted."""
    template = {"metadata": {"annotations": {"ledgergate.dev/revision": "b"}}}
    workload = {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": template}}
    outcomes = {"hold": "held", "wait": "held", "verdict": "denied", "deny": "denied"}
    for path, name in PATHS.items():
        if name in {"relabel", "bypass"}:
            continue  # they are asked about changes
        about: dict[str, Any] = {"object": workload} if name.startswith("workload") else {}
        status, body, _ = await site.post(review("b", **about), path)
        outcome = outcomes.get(name, "warned")
        assert (status, json.loads(body)["response"]["allowed"]) == (200, outcome != "denied")
        assert site.counted(webhook=f"{name}.ledgergate.dev", outcome=outcome, reason="Behind") == 1
        assert (b"audit" in body) is name.endswith("audit")


async def test_a_frozen_label_and_an_endless_bypass_are_refused_and_counted(site: Running) -> None:
    """Each is counted for its webhook: the label under the reason for which the pod is held, the other as a bypass."""
    held: dict[str, dict[str, Any]] = {
        "metadata": {"labels": {"app": "x"}, "annotations": {"ledgergate.dev/revision": "b"}},
        "spec": {"schedulingGates": [{"name": "ledgergate.dev/ledger"}]},
    }
    changed = {**held, "metadata": {**held["metadata"], "labels": {"app": "y"}}}
    site.view.selector = Selector((("app", "In", frozenset(["x"])),))
    body = review(operation="UPDATE", object=changed, oldObject=held)
    status, answer, _ = await site.post(body, "/validate/relabel")
    assert (status, json.loads(answer)["response"]["status"]["code"]) == (200, 403)
    assert b"label app cannot change while the pod is held" in answer
    assert site.counted(webhook="relabel.ledgergate.dev", outcome="denied", reason="Behind") == 1
    spec = {"selector": {}, "database": {"secretRef": {"name": "pg"}}, "ledger": {"dialect": "knex"}}
    gate = {"metadata": {"name": "app"}, "spec": {**spec, "bypass": {"until": "2099-01-01T00:00:00Z", "reason": "x"}}}
    status, answer, _ = await site.post(review(object=gate), "/validate-gate")
    assert (status, json.loads(answer)["response"]["status"]["code"]) == (200, 403)
    assert site.counted(webhook="bypass.ledgergate.dev", outcome="denied", reason="Bypassed") == 1


async def test_a_dry_run_is_answered_and_counted_as_one(site: Running, caplog: pytest.LogCaptureFixture) -> None:
    """GitOps tools send dry runs all day; they count as such, and are not logged: no pod exists."""
    caplog.set_level("INFO", "ledgergate")
    _, body, _ = await site.post(review("b", dryRun=True), "/mutate")
    assert json.loads(body)["response"]["patchType"] == "JSONPatch"
    _, body, _ = await site.post(review("b", dryRun=True))
    assert not json.loads(body)["response"]["allowed"]
    for webhook in ("hold.ledgergate.dev", "verdict.ledgergate.dev"):
        assert site.counted(webhook=webhook, outcome="dry-run", reason="Behind") == 1
    assert site.counted(webhook="hold.ledgergate.dev", outcome="held", reason="Behind") == 0
    assert caplog.records == []
    await site.post(review("b"))
    assert [record.message for record in caplog.records] == ["pod.denied"]


async def test_an_internal_error_is_answered_with_the_uid(site: Running) -> None:
    """HTTP 500 with the review's own uid, counted; the answer does not show the error."""
    site.view.broken = True
    status, body, _ = await site.post(review())
    answer = json.loads(body)["response"]
    assert status == 500
    assert (answer["uid"], answer["allowed"], answer["status"]["code"]) == ("u-1", False, 500)
    assert b"slip" not in body
    assert site.counted(webhook="verdict.ledgergate.dev", outcome="error", reason="Internal") == 1
    site.view.broken = False
    assert await site.serves()


async def test_before_the_gates_are_known_nothing_is_decided(site: Running) -> None:
    """503, so that failurePolicy decides; not an answer without knowledge."""
    site.view.synced = False
    status, _, _ = await site.post(review())
    assert status == 503
    site.view.synced = True
    assert await site.serves()


async def test_connections_are_kept_until_the_drain(site: Running) -> None:
    """A draining replica answers and closes each connection, which the API server would otherwise go on using."""
    _, _, headers = await site.post(review())
    assert headers.get("Connection", "").lower() != "close"
    await asyncio.wait_for(drain(site.server, 0.0), 30)
    for body in (review(), review("b"), b"broken"):
        _, _, headers = await site.post(body)
        assert headers["Connection"].lower() == "close"
    assert await site.serves()


async def test_requests_in_flight_are_measured(site: Running) -> None:
    """Afterwards the gauge is zero, and the histogram has counted each review."""
    await asyncio.gather(*(site.post(review()) for _ in range(20)))
    text = site.telemetry.exposition()[0].decode()
    assert "ledgergate_admission_in_flight 0.0" in text
    assert re.search(r'duration_seconds_count\{webhook="verdict.ledgergate.dev"\} 20\.0', text)


async def test_reviews_over_tls() -> None:
    """The server answers over TLS as the API server calls it, and survives a plain-text connection."""
    now = datetime.now(UTC)
    ends = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(hours=1)}
    authority = issue_authority("test", **ends)
    context = tls.server_context()
    tls.serve(context, issue_leaf(authority, ["127.0.0.1"], **ends))
    trust = ssl.create_default_context(cadata=authority.certificate.decode())
    async with running(context, trust) as site:
        assert await site.serves()
        host, port = site.base.removeprefix("https://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /validate HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert await site.serves()


@asynccontextmanager
async def probed(live: list[bool], ready: list[str], telemetry: Telemetry) -> AsyncIterator[Any]:
    (port,) = free_ports(1)
    handler = probes(lambda: live[0], lambda: ready[0], telemetry)
    async with serving(Site(handler, Endpoint("127.0.0.1", port))), aiohttp.ClientSession() as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status, await response.text()

        yield get


async def test_probes() -> None:
    """Live, ready and metrics, each in plain text; the answer has the reason for not ready."""
    live, ready = [True], [""]
    async with probed(live, ready, Telemetry()) as get:
        assert await get("/livez") == (200, "ok\n")
        assert await get("/readyz") == (200, "ok\n")
        status, text = await get("/metrics")
        assert status == 200
        assert "ledgergate_build_info" in text
        live[0], ready[0] = False, "no certificate yet"
        assert await get("/livez") == (503, "not alive\n")
        assert await get("/readyz") == (503, "no certificate yet\n")
        assert (await get("/mutate"))[0] == 404


async def test_a_port_in_use_raises_at_once() -> None:
    """The second server on a port fails at once, and closes what it had opened."""
    first, second = free_ports(2)
    handler = probes(lambda: True, lambda: "", Telemetry())
    one, two = Endpoint("127.0.0.1", first), Endpoint("127.0.0.1", second)
    async with serving(Site(handler, one)):
        with pytest.raises(OSError, match="address"):
            async with serving(Site(handler, two), Site(handler, one)):
                pass
        async with serving(Site(handler, two)):
            pass
