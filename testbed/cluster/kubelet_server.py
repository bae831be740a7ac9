"""The HTTP server of the tests' kubelet, for `kubectl logs` and `kubectl exec` through the API server.

Since Kubernetes 1.36 the API server forwards WebSockets to a node that declares `ExtendWebSocketsToKubelet`
(KEP-4006), so that SPDY is not needed. Channels of `v5.channel.k8s.io`: 1 stdout, 2 stderr, 3 status.
"""

import asyncio
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from aiohttp import WSMsgType, web

PROTOCOL = "v5.channel.k8s.io"
FEATURE = "ExtendWebSocketsToKubelet"
_OUTPUT, _ERRORS, _STATUS = b"\x01", b"\x02", b"\x03"
_POLL = 0.05


class Node(Protocol):
    """The kubelet, as the server needs it."""

    def printed(self, namespace: str, pod: str, container: str, *, previous: bool) -> Path | None:
        """Return the file of a container's output; None for a container without a process."""

    def running(self, namespace: str, pod: str, container: str) -> bool:
        """Return whether a container may print more."""

    async def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> asyncio.subprocess.Process:
        """Start a command in a container, with pipes."""


async def serve(node: Node, tls: ssl.SSLContext) -> tuple[web.AppRunner, int]:
    """Serve on a free port of 127.0.0.1; return the runner, for `stop`, and the port."""

    async def logs(request: web.Request) -> web.StreamResponse:
        return await _logs(node, request)

    async def execute(request: web.Request) -> web.StreamResponse:
        return await _execute(node, request)

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs)
    app.router.add_get("/exec/{namespace}/{pod}/{container}", execute)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    return runner, runner.addresses[0][1]


async def stop(runner: web.AppRunner) -> None:
    """Stop the server at once: the API server keeps connections open, and TLS would wait for their shutdown."""
    for connection in runner.server.connections if runner.server else ():
        if connection.transport is not None:
            connection.transport.abort()
    await runner.cleanup()
    # The transports close their sockets in the next iterations of the loop.
    for _ in range(3):
        await asyncio.sleep(0)


async def _logs(node: Node, request: web.Request) -> web.StreamResponse:
    names = _names(request)
    file = node.printed(*names, previous=request.query.get("previous") == "true")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    lines = _read(file).splitlines(keepends=True)
    tail = request.query.get("tailLines")
    await response.write(b"".join(lines[len(lines) - min(int(tail), len(lines)) :] if tail else lines))
    if file is not None and request.query.get("follow") == "true":
        await _follow(node, names, file, sum(map(len, lines)), response)
    await response.write_eof()
    return response


async def _follow(node: Node, names: tuple[str, str, str], file: Path, sent: int, response: web.StreamResponse) -> None:
    more = True
    while more:
        more = node.running(*names)
        new = _read(file)[sent:]
        sent += len(new)
        await response.write(new)
        await asyncio.sleep(_POLL)


async def _execute(node: Node, request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(protocols=[PROTOCOL])
    await socket.prepare(request)
    process = await node.execute(*_names(request), request.query.getall("command"))

    async def pump(channel: bytes, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (data := await stream.read(2**16)):
            await socket.send_bytes(channel + data)

    async def listen() -> None:
        """Read the client's messages (pings and closing), and terminate the command when the client is gone."""
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
        if process.returncode is None:
            process.terminate()

    listening = asyncio.create_task(listen())
    await asyncio.gather(pump(_OUTPUT, process.stdout), pump(_ERRORS, process.stderr))
    await socket.send_bytes(_STATUS + json.dumps(_status(await process.wait())).encode())
    await socket.close()
    listening.cancel()
    return socket


def _status(code: int) -> dict[str, object]:
    """Return the Status of an exit code, as remotecommand sends it, so that kubectl exits with it."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    text = f"command terminated with non-zero exit code: exit status {code}"
    details = {"causes": causes}
    return {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": text, "details": details}


def _read(file: Path | None) -> bytes:
    """Return the output of a container; nothing for a container without a process."""
    return file.read_bytes() if file else b""


def _names(request: web.Request) -> tuple[str, str, str]:
    found = request.match_info
    return found["namespace"], found["pod"], found["container"]
