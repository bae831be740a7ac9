"""Requests to registries, bounded in time, size, redirects and addresses."""

import asyncio
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from webhook.registries.connector import AddressRefused, open_connector
from webhook.registries.result import RegistryFailure, UnresolvedReason
from webhook.registries.settings import RegistrySettings
from webhook.registries.urls import parse_url

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AGAIN = frozenset({429, 500, 502, 503, 504})
_HEADERS = {"User-Agent": "ledgergate", "Accept-Encoding": "identity"}
_REFUSED_REMEDY = "name another registry, or allow its network for ledgergate"


@dataclass(frozen=True, slots=True)
class RegistryAnswer:
    """A registry's answer.

    Args:
        status: HTTP status.
        headers: its headers.
        challenges: its headers ``WWW-Authenticate``.
        body: its body; empty unless the status is 200.
    """

    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    body: bytes


class RegistryTransport:
    """The requests of one reading of an image. It shares no cookie, connection or credential with another's.

    Args:
        settings: which addresses and hosts are reached how.
        resolver: resolves names.
        trust: whom TLS trusts.
    """

    def __init__(self, settings: RegistrySettings, resolver: AbstractResolver, trust: ssl.SSLContext) -> None:
        self._settings = settings
        self._limits = settings.limits
        timeout = aiohttp.ClientTimeout(total=self._limits.request, sock_connect=self._limits.connect)

        def session(*, checked: bool) -> aiohttp.ClientSession:
            # trust_env stays off: it would read ~/.netrc and send what is there.
            policy = settings.addresses if checked else None
            return aiohttp.ClientSession(
                connector=open_connector(resolver, trust, policy),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=timeout,
                headers=_HEADERS,
                auto_decompress=False,
            )

        self._direct, self._proxied = session(checked=True), session(checked=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._direct.close()
        await self._proxied.close()

    async def request(
        self,
        url: URL,
        *,
        limit: int,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        redirects: bool = True,
    ) -> RegistryAnswer:
        """Make a request, retry it where that may help, and follow its redirects.

        Args:
            url: where to.
            limit: bytes that the body may have.
            method: ``GET``, ``HEAD``, or ``POST`` with a form.
            headers: those of the request. ``Authorization`` is sent to the origin of `url` alone.
            form: what is posted.
            redirects: whether a redirect is followed, else it counts as malformed.

        Raises:
            RegistryFailure: there is no answer, or it may not be used.
        """
        sent = dict(headers or {})
        for _ in range(self._limits.redirects + 1):
            answer = await self._with_retries(method, url, sent, form, limit)
            if answer.status not in _REDIRECTS:
                return answer
            if not redirects:
                raise _malformed(url, "redirects a login")
            target = self._target(url, answer)
            if target.origin() != url.origin():
                sent.pop("Authorization", None)
            url = target
        raise _malformed(url, f"redirects more than {self._limits.redirects} times")

    def _target(self, url: URL, answer: RegistryAnswer) -> URL:
        target = parse_url(answer.headers.get("Location", ""), url)
        if target is None:
            raise _malformed(url, "redirects to something that is no address")
        authority = target.host_port_subcomponent or ""
        if target.scheme != "https" and not (target.scheme == "http" and authority in self._settings.plain_http):
            raise _malformed(url, "redirects to an address without TLS")
        return target

    async def _with_retries(
        self, method: str, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None, limit: int
    ) -> RegistryAnswer:
        self._check_literal(url)
        for attempt in range(1, self._limits.attempts + 1):
            last = attempt == self._limits.attempts
            pause = self._limits.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load
            try:
                answer = await self._once(method, url, headers, form, limit)
            except RegistryFailure as failure:
                if last or failure.unresolved.reason is not UnresolvedReason.UNREACHABLE:
                    raise
            else:
                if answer.status not in _AGAIN:
                    return answer
                asked = _retry_after(answer)
                # A registry that asks for more than there is time for is left alone: the caller knows when to return.
                if last or (asked is not None and asked > self._limits.total / 2):
                    raise _refused(url, answer.status, asked)
                pause = pause if asked is None else asked
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None, limit: int
    ) -> RegistryAnswer:
        proxy = self._settings.proxies.find(url.scheme, url.raw_host or "", url.port or 0)
        session = self._direct if proxy is None else self._proxied
        try:
            async with session.request(
                method, url, headers=headers, data=form, proxy=proxy, allow_redirects=False
            ) as response:
                try:
                    body = await _read(response, limit) if response.status == 200 and method != "HEAD" else b""  # noqa: PLR2004
                finally:
                    response.close()  # what is left of the body is not waited for
                challenges = tuple(response.headers.getall("WWW-Authenticate", ()))[:8]
                return RegistryAnswer(response.status, response.headers, challenges, body)
        except RegistryFailure:
            raise
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:  # uvloop raises RuntimeError
            raise _describe(url, error) from error

    def _check_literal(self, url: URL) -> None:
        """Refuse an address that stands in the URL, also where a proxy would connect to it."""
        try:
            objection = self._settings.addresses.objection(ip_address(url.raw_host or ""))
        except ValueError:
            return
        if objection:
            raise _address_refused(url, objection)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _malformed(response.url, "compresses although it was asked not to")
    if (response.content_length or 0) > limit:
        raise _too_large(response.url, limit)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise _too_large(response.url, limit)
    return bytes(body)


def _retry_after(answer: RegistryAnswer) -> float | None:
    """Return the seconds of ``Retry-After`` (RFC 9110, section 10.2.3); None where it has none, or no usable one."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), 86400.0)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max((when - datetime.now(UTC)).total_seconds(), 0.0), 86400.0)


def _host(url: URL) -> str:
    return url.host_port_subcomponent or "the registry"


def _malformed(url: URL, what: str) -> RegistryFailure:
    return RegistryFailure(UnresolvedReason.MALFORMED, f"{_host(url)} {what}", "look at the registry's configuration")


def _too_large(url: URL, limit: int) -> RegistryFailure:
    return RegistryFailure(
        UnresolvedReason.TOO_LARGE, f"{_host(url)} answers with more than {limit} bytes", "name an image of usual size"
    )


def _refused(url: URL, status: int, retry_after: float | None) -> RegistryFailure:
    if status == 429:  # noqa: PLR2004
        return RegistryFailure(
            UnresolvedReason.RATE_LIMITED,
            f"{_host(url)} limits how often it is asked",
            "log in to it, or use a mirror",
            retry_after,
        )
    return RegistryFailure(
        UnresolvedReason.UNREACHABLE, f"{_host(url)} answers with HTTP {status}", "wait until it is well", retry_after
    )


def _address_refused(url: URL, objection: str) -> RegistryFailure:
    return RegistryFailure(
        UnresolvedReason.ADDRESS_REFUSED,
        f"{_host(url)} is at an address that is refused ({objection})",
        _REFUSED_REMEDY,
    )


def _describe(url: URL, error: Exception) -> RegistryFailure:
    """Return what a failed request means, without addresses or a library's words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressRefused):
            return _address_refused(url, str(cause))
        cause = getattr(cause, "os_error", None)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return RegistryFailure(
            UnresolvedReason.UNTRUSTED,
            f"the certificate of {_host(url)} is not trusted",
            "name its certificate authority for ledgergate",
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return RegistryFailure(
            UnresolvedReason.UNTRUSTED,
            f"{_host(url)} does not speak TLS",
            "name it as a registry without TLS, if it is one",
        )
    if isinstance(error, aiohttp.InvalidURL):
        return RegistryFailure(
            UnresolvedReason.INVALID_REFERENCE, f"{_host(url)} is no name of a host", "correct the image"
        )
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return _malformed(url, "answers with something that is not HTTP, or ends too early")
    what = "cannot be reached"
    if isinstance(error, TimeoutError):
        what = "does not answer in time"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        what = "has no address: its name cannot be resolved"
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        what = "closes the connection"
    return RegistryFailure(
        UnresolvedReason.UNREACHABLE,
        f"{_host(url)} {what}",
        "check that it runs, and that ledgergate may connect to it",
    )
