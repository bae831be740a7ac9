"""A watch on a peer that goes silent ends in bounded time and is started again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration

from webhook.api.objects import Secret
from webhook.kube.client import KubeClient
from webhook.kube.collection import PAGE, Collection, Query
from webhook.kube.errors import Expired, Unavailable, cluster_error
from webhook.kube.reflector import Reflector

LIST = '{"metadata": {"resourceVersion": "7"}, "items": []}'
ADDED = b'{"type": "ADDED", "object": {"metadata": {"namespace": "ns", "name": "pg", "resourceVersion": "8"}}}\n'


class Silent:
    """An API server that sends one line in each watch, then nothing, and keeps the connection open."""

    def __init__(self) -> None:
        self.watches = 0
        self.headers_too = False
        self.line = ADDED
        self._end = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """List, or watch."""
        if "watch" not in request.query:
            return web.Response(text=LIST, content_type="application/json")
        self.watches += 1
        if self.headers_too:
            await self._end.wait()
        response = web.StreamResponse(status=HTTPStatus.OK)
        await response.prepare(request)
        await response.write(self.line)
        await self._end.wait()
        return response

    def release(self) -> None:
        """Close the connections."""
        self._end.set()


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[Silent, KubeClient]]:
    server = Silent()
    application = web.Application()
    application.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    configuration = Configuration()
    configuration.host = f"http://{host}:{port}"
    async with KubeClient(ApiClient(configuration)) as cluster:
        try:
            yield server, cluster
        finally:
            server.release()
    await runner.cleanup()


@pytest.mark.parametrize("headers_too", [False, True])
async def test_a_stream_without_a_byte_ends(headers_too: bool) -> None:
    """After the given silence, before or after the first byte, the connection counts as dead."""
    async with silent() as (server, cluster):
        server.headers_too = headers_too
        lines: list[bytes] = []

        async def read() -> None:
            async for line in cluster.stream("/api/v1/secrets", {"watch": "true"}, silence=0.2):
                lines.append(line)  # noqa: PERF401 - what was read before the end counts

        with pytest.raises(Unavailable, match="watch /api"):
            await read()
        assert lines == ([] if headers_too else [ADDED])


async def test_a_line_that_is_too_long_is_a_failed_watch() -> None:
    """An object whose JSON exceeds the client's buffer fails the watch like a lost connection, and nothing else."""
    async with silent() as (server, cluster):
        server.line = b"x" * 2**23
        with pytest.raises(Unavailable, match="watch /api"):
            [line async for line in cluster.stream("/api/v1/secrets", {"watch": "true"}, silence=5)]


async def test_a_silent_watch_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reflector watches by another connection and reports the failure."""
    monkeypatch.setattr("webhook.kube.collection.WATCH_SECONDS", (0, 0))
    monkeypatch.setattr("webhook.kube.collection.SILENCE", 0.2)
    async with silent() as (server, cluster):
        failures: list[Exception | None] = []
        reflector: Reflector[Secret] = Reflector(
            Collection(cluster, "/api/v1/secrets", Secret),
            lambda _old, _new: None,
            on_failure=failures.append,
            retry=(0.001, 0.01),
        )
        task = asyncio.create_task(reflector.run())
        try:
            async with asyncio.timeout(30):
                while server.watches < 3:  # noqa: ASYNC110 - the server is another task
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert any(isinstance(failure, Unavailable) for failure in failures)


class Paged:
    """An API server that answers a list in pages of one object, whatever is asked for."""

    def __init__(self, *answers: str | int) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, str]] = []

    async def get(self, path: str, query: Query) -> bytes:
        """Answer with the next page, or fail with the next status."""
        del path
        self.asked.append(dict(query))
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise cluster_error(answer, "gone")
        return answer.encode()

    def stream(self, path: str, query: Query, silence: float) -> AsyncIterator[bytes]:
        """Watch nothing."""
        raise NotImplementedError


def page(name: str, more: str = "") -> str:
    item = {"metadata": {"namespace": "ns", "name": name}}
    return json.dumps({"metadata": {"resourceVersion": "7", "continue": more}, "items": [item]})


async def test_a_list_has_every_page() -> None:
    """Each page is asked for with the token of the one before; the version to watch from is that of the first."""
    server = Paged(page("a", "t1"), page("b", "t2"), page("c"))
    found, version = await Collection(server, "/x", Secret, (("labelSelector", "x"),)).list_objects()
    assert [each.metadata.name for each in found] == ["a", "b", "c"]
    assert version == "7"
    limited = {"labelSelector": "x", "limit": str(PAGE)}
    assert server.asked == [limited, limited | {"continue": "t1"}, limited | {"continue": "t2"}]


async def test_a_list_that_expires_on_the_way_fails_as_a_whole() -> None:
    """Half a collection would look like deletions."""
    with pytest.raises(Expired):
        await Collection(Paged(page("a", "t1"), 410), "/x", Secret).list_objects()
