"""The admission server: routes, the table from outcome to HTTP response, and the drain.

====================================================  ======================================================
a review that was decided, allowed or not             200, AdmissionReview
not JSON by content type                              415, a plain reason
over 7 MiB (two 3 MiB objects and change)             413
a body that is not complete in time                   408
cut off, because all bodies need too much memory      503
empty, undecodable, no uid, namespace or object       400, a plain reason
gates not known yet (just started)                    503, a plain reason
an internal error                                     500, AdmissionReview with the request's own uid
====================================================  ======================================================

To the API server everything but 200 is a failed call, to which the webhook's failurePolicy applies: with Ignore the
request goes on without an answer, with Fail it is refused.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from prometheus_client import Histogram

from webhook.admission.bodies import (
    BODY_LIMIT,
    BodiesTooMany,
    BodyReader,
    BodyTooLarge,
    BodyTooSlow,
    read_timeout,
)
from webhook.admission.connections import Connections, HttpHandler, Limits
from webhook.admission.handlers import Admission, Answer, GateView, Result
from webhook.admission.listener import Listener
from webhook.admission.review import Request, ReviewError, decode_review, encode_response, shorten
from webhook.api.objects import LedgerGate, Pod
from webhook.api.workload import Workload
from webhook.settings import Endpoint
from webhook.telemetry import Telemetry, log_event

KEEPALIVE_SECONDS = 150.0
"""Above Go's idle timeout of 90 s, so that the API server closes an idle connection, and not this server while a
request is on its way."""
SHUTDOWN_SECONDS = 5.0
"""For requests that are still being answered when the server stops."""
LINGERING_SECONDS = 1.0
"""For which the rest of a refused body is read and dropped, so that its client sees the answer."""
COLLECTION_THRESHOLDS = (20_000, 10, 10)
"""For `gc.set_threshold` in a process that serves reviews, which leave no cycles behind. A pass takes longer, the more
objects there are: with a thousand open connections and Python's own 700, one of 35 to 60 ms came every few seconds, and
no review was answered in it."""
PROBE_LIMITS = Limits(connections=128, header_seconds=5.0)
"""Of the port without TLS, which kubelet and Prometheus use."""

O = TypeVar("O", Pod, Workload, LedgerGate)  # noqa: E741 - the object of a review

Handler = Callable[[Request[O]], Answer]

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class _Route(Generic[O]):
    """One path of the server.

    Args:
        webhook: the entry of the webhook configurations that has this path.
        kind: of the objects of its reviews.
        duration: its histogram, of seconds.
    """

    webhook: str
    kind: type[O]
    handler: Handler[O]
    duration: Histogram


class AdmissionServer:
    """The webhook's HTTP side.

    Each entry of the webhook configurations has a path of its own, so that each is counted as what it is.

    Args:
        admission: answers the reviews.
        gates: asked for ``synced`` before a review is answered.
    """

    def __init__(self, admission: Admission, gates: GateView, telemetry: Telemetry) -> None:
        self._gates = gates
        # Finding the counter of some labels costs more than counting; there are as many as webhooks, outcomes, reasons.
        self._requests = cache(telemetry.requests.labels)
        self._telemetry = telemetry
        self._in_flight = 0
        telemetry.in_flight.set_function(lambda: self._in_flight)
        self._bodies = BodyReader()
        self.draining = False
        self._routes: dict[str, _Route[Any]] = {}
        self._add("/mutate", "hold", Pod, admission.mutate)
        self._add("/mutate/wait", "wait", Pod, partial(admission.mutate, waits=True))
        self._add("/validate", "verdict", Pod, admission.validate)
        self._add("/validate/deny", "deny", Pod, admission.validate)
        self._add("/validate/relabel", "relabel", Pod, admission.relabel)
        self._add("/validate/audit", "audit", Pod, admission.audit)
        self._add("/validate-gate", "bypass", LedgerGate, admission.limit_bypass)
        self._add("/validate-workload", "workload", Workload, admission.preview)
        self._add("/validate-workload/audit", "workload-audit", Workload, partial(admission.preview, audit=True))

    def _add(self, path: str, name: str, kind: type[O], handler: Handler[O]) -> None:
        webhook = f"{name}.ledgergate.dev"
        self._routes[path] = _Route(webhook, kind, handler, self._telemetry.duration.labels(webhook))

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        path, seconds = _read_target(request)
        route = self._routes.get(path)
        if route is None or request.method != "POST":
            return _unrouted(None if route is None else ("POST",))
        started = time.perf_counter()
        self._in_flight += 1
        try:
            response = await self._answer(route, request, seconds)
        finally:
            self._in_flight -= 1
            route.duration.observe(time.perf_counter() - started)
        if self.draining:
            # The API server goes on using an open connection, whether this replica is ready or not (kubernetes#127335).
            response.force_close()
        return response

    async def _answer(self, route: _Route[O], request: web.BaseRequest, seconds: float) -> web.Response:
        webhook = route.webhook
        review = await self._read(route, request, seconds)
        if not isinstance(review, Request):
            return review
        if not self._gates.synced:
            return self._refuse(webhook, 503, "the gates are not known yet; ask again")
        try:
            answer = route.handler(review)
        except Exception:  # noqa: BLE001 - whatever fails, the API server gets an answer with the review's uid
            log_event("admission.failed", level=logging.ERROR, trace=True, webhook=webhook)
            self._requests(webhook, "error", "Internal").inc()
            body = encode_response(review.uid, allowed=False, code=500, message="ledgergate failed; see its log")
            return web.Response(status=500, body=body, content_type=JSON)
        self._count(webhook, review, answer)
        body = encode_response(
            review.uid, allowed=answer.allowed, message=answer.message, warnings=answer.warnings, patch=answer.patch
        )
        return web.Response(body=body, content_type=JSON)

    async def _read(self, route: _Route[O], request: web.BaseRequest, seconds: float) -> Request[O] | web.Response:
        """Decode the review, or return the refusal."""
        webhook = route.webhook
        if request.content_type != JSON:
            return self._refuse(webhook, 415, f"expected {JSON}, got {shorten(request.content_type)}")
        try:
            return decode_review(await self._bodies.read(request, seconds), route.kind)
        except ReviewError as error:
            return self._refuse(webhook, 400, str(error))
        except BodyTooLarge:
            refusal = self._refuse(webhook, 413, f"the body is over {BODY_LIMIT} bytes")
        except BodyTooSlow:
            refusal = self._refuse(webhook, 408, f"the body was not complete within {seconds:g} s")
        except BodiesTooMany:
            refusal = self._refuse(webhook, 503, "too many large bodies at a time; ask again")
        except web.RequestPayloadError:
            refusal = self._refuse(webhook, 400, "the body is not compressed as its headers say")
        refusal.force_close()  # where the next request begins on this connection is not known
        return refusal

    def _refuse(self, webhook: str, status: int, reason: str) -> web.Response:
        self._requests(webhook, "error", str(status)).inc()
        return web.Response(status=status, text=f"{reason}\n")

    def _count(self, webhook: str, review: Request[O], answer: Answer) -> None:
        """Count and log the outcome. A dry run creates no pod, so it has an outcome of its own and no log line."""
        verdict = answer.verdict
        outcome = "dry-run" if review.dry_run else answer.result
        self._requests(webhook, outcome, verdict.reason).inc()
        if answer.result is not Result.HELD and answer.result is not Result.DENIED:
            return  # most answers; with `is`, as an enum's hash is computed in Python
        if review.dry_run or review.object is None:
            return
        metadata, subject = review.object.metadata, type(review.object).__name__.lower()
        # A generated name does not exist yet at admission; a person can search for its prefix.
        name: dict[str, Any] = {subject: metadata.name or metadata.generate_name}
        log_event(
            f"{subject}.{answer.result}",
            webhook=webhook,
            namespace=review.namespace,
            **name,
            gate=verdict.gate,
            reason=verdict.reason,
            message=verdict.message,
        )


def _read_target(request: web.BaseRequest) -> tuple[str, float]:
    """Return a request's path, and the seconds that it has, from the parameter `timeout` of its URL."""
    target = request.raw_path
    return _parse_target(target if target.startswith("/") else request.path_qs)


@lru_cache(maxsize=64)
def _parse_target(target: str) -> tuple[str, float]:
    """Parse what is the same in each request of the API server: as URL objects it cost 5 % of a review of 5 KB."""
    path, _, query = target.partition("?")
    return path, read_timeout(dict(parse_qsl(query)).get("timeout", ""))


def _unrouted(methods: Sequence[str] | None) -> web.Response:
    """Answer a request for a path that does not exist, or that exists with other methods."""
    if methods is None:
        return web.Response(status=404, text="404: Not Found")
    return web.Response(status=405, text="405: Method Not Allowed", headers={"Allow": ",".join(methods)})


_READING = ("GET", "HEAD")
_AUTHENTICATE = {"WWW-Authenticate": "Bearer"}


def probes(
    live: Callable[[], bool],
    ready: Callable[[], str],
    telemetry: Telemetry,
    refusal: Callable[[str], Awaitable[int]] | None = None,
) -> HttpHandler:
    """Return the handler of the plain-text port: ``/livez``, ``/readyz`` and ``/metrics``.

    Args:
        live: whether the process does its work.
        ready: returns why it cannot answer now; empty where it can. It names nothing of a tenant.
        refusal: called with the bearer token of a request for metrics, which name namespaces and LedgerGates; returns
            the HTTP status to refuse it with, 0 to answer. None to answer every request.
    """

    async def livez(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n") if live() else web.Response(status=503, text="not alive\n")

    async def readyz(_: web.BaseRequest) -> web.Response:
        reason = ready()
        return web.Response(status=503, text=f"{reason}\n") if reason else web.Response(text="ok\n")

    async def metrics(request: web.BaseRequest) -> web.Response:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if refusal is not None and (status := await refusal(token.strip() if kind.lower() == "bearer" else "")):
            return web.Response(status=status, text="not allowed\n", headers=_AUTHENTICATE if status == 401 else {})  # noqa: PLR2004
        body, content_type = telemetry.exposition()
        return web.Response(body=body, headers={"Content-Type": content_type})

    routes = {"/livez": livez, "/readyz": readyz, "/metrics": metrics}

    async def handle(request: web.BaseRequest) -> web.Response:
        route = routes.get(request.path)
        if route is None or request.method not in _READING:
            return _unrouted(None if route is None else _READING)
        return await route(request)

    return handle


@dataclass(frozen=True, slots=True)
class Site:
    """A handler of requests and where it is served.

    Args:
        context: of TLS; None for none.
        limits: of its connections.
        admits: see :class:`Connections`.
        last_seconds: how long the newest connections may wait for their first answer when the site closes.
    """

    handler: HttpHandler
    endpoint: Endpoint
    context: ssl.SSLContext | None = None
    limits: Limits = field(default_factory=Limits)
    admits: Callable[[asyncio.BaseTransport], bool] = lambda _: True
    last_seconds: float = 0.0


@asynccontextmanager
async def serving(*sites: Site) -> AsyncIterator[None]:
    """Serve requests by handlers, each at its address and within its limits, until the block ends.

    Raises:
        OSError: an address is in use, or does not belong to this machine.
    """
    async with AsyncExitStack() as stack:
        for site in sites:
            connections = Connections(site.limits, site.admits)
            # The server without aiohttp's Application: its routing, its middlewares and what it adds to each request
            # cost as much as a decision.
            server = web.Server(
                connections.track(site.handler),
                keepalive_timeout=KEEPALIVE_SECONDS,
                lingering_time=LINGERING_SECONDS,
                access_log=None,
            )
            runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            listener = Listener(server, connections, site.context)
            await listener.listen(site.endpoint)
            # The stack unwinds in reverse: the listener waits for first answers before the runner closes connections.
            stack.push_async_callback(listener.close, site.last_seconds)
        yield


async def drain(server: AdmissionServer, seconds: float) -> None:
    """Go on answering for some seconds, until the API server knows that this replica is leaving.

    Endpoints and kube-proxy follow a pod's end with a delay; meanwhile requests still arrive.
    """
    server.draining = True
    log_event("webhook.draining", seconds=seconds)
    await asyncio.sleep(seconds)
