"""Requests to the admission server by path, method, target and body, and to its probes."""

import asyncio
import json

import aiohttp
import pytest

from testbed.ports import free_ports
from tests.unit.test_admission_server import JSON, PATHS, Running, review, site
from webhook.admission.server import Site, probes, serving
from webhook.core.selector import Selector
from webhook.settings import Endpoint
from webhook.telemetry import Telemetry

__all__ = ["site"]  # the fixture


async def test_other_paths_and_methods(site: Running) -> None:
    """A path that does not exist is 404; one that does is 405 with the methods it has, and the connection goes on."""
    for path in ("/", "/nowhere", "//validate", "/validate/", "/mutate/x?timeout=1s"):
        assert (await site.post(review(), path))[0] == 404, path
    async with site.session.get(f"{site.base}/validate") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert await site.serves()


async def test_a_pod_waits_for_its_gate_by_the_path(site: Running) -> None:
    """Only the path says whether undeclared pods of the namespace wait: one path holds the pod, the other admits it."""
    site.view.selector = Selector((("app", "Exists", frozenset()),))
    undeclared = review(object={"metadata": {}, "spec": {"containers": []}})
    for path, outcome in (("/mutate", "admitted"), ("/mutate/wait", "held")):
        _, body, _ = await site.post(undeclared, path)
        assert ("patch" in json.loads(body)["response"]) is (outcome == "held")
        name = PATHS[path]
        assert site.counted(webhook=f"{name}.ledgergate.dev", outcome=outcome, reason="Unselected") == 1


@pytest.mark.parametrize(
    "target", ["/validate", "/validate?timeout=2s", "/validate?timeout=2s&x=%zz", "/validate?&=&timeout"]
)
@pytest.mark.parametrize("host", ["", "http://127.0.0.1"])
async def test_targets(site: Running, target: str, host: str) -> None:
    """Any query is answered, and a target with a host as RFC 9112 (3.2.2) wants it."""
    body = review()
    head = f"POST {host}{target} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.base.rpartition(":")[2]))
    writer.write(head.encode() + body)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_body_in_pieces(site: Running) -> None:
    """A body that arrives in several pieces is read completely."""
    body = review()
    head = f"POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.base.rpartition(":")[2]))
    for piece in (head.encode(), body[:50], body[50:]):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_probes_are_read_only() -> None:
    """A probe answers GET and HEAD."""
    (port,) = free_ports(1)
    handler = probes(lambda: True, lambda: "", Telemetry())
    async with serving(Site(handler, Endpoint("127.0.0.1", port))), aiohttp.ClientSession() as session:
        for method, status in (("GET", 200), ("HEAD", 200), ("POST", 405), ("DELETE", 405)):
            async with session.request(method, f"http://127.0.0.1:{port}/livez") as response:
                assert response.status == status
                assert status == 200 or response.headers["Allow"] == "GET,HEAD"
