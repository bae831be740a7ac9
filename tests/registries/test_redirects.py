"""Where a registry may send its client: redirects and token realms, to which no credential leaks."""

import json
from dataclasses import replace
from ipaddress import ip_network

import pytest
from aiohttp import web

from tests.registries.conftest import LOCAL, QUICK
from tests.registries.hostile import SECRET, ask, honest, refused, server, settings_for
from webhook.registries.client import RegistryClient
from webhook.registries.credentials import Keyring
from webhook.registries.result import ImageLabels, Unresolved, UnresolvedReason


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("https://169.254.169.254/latest/meta-data/", UnresolvedReason.ADDRESS_REFUSED),
        ("https://[::ffff:169.254.169.254]/", UnresolvedReason.ADDRESS_REFUSED),
        ("https://10.96.0.1/api/v1/secrets", UnresolvedReason.ADDRESS_REFUSED),
        ("http://elsewhere.invalid/", UnresolvedReason.MALFORMED),
        ("file:///etc/passwd", UnresolvedReason.MALFORMED),
        ("https://user:password@elsewhere.invalid/", UnresolvedReason.MALFORMED),
        ("https://", UnresolvedReason.MALFORMED),
        ("", UnresolvedReason.MALFORMED),
        ("https://elsewhere.invalid:99999/", UnresolvedReason.MALFORMED),
        ("https://elsewhere.invalid:port/", UnresolvedReason.MALFORMED),
        ("https://xn--/", UnresolvedReason.MALFORMED),
        ("https://a b/", UnresolvedReason.MALFORMED),
        ("https://[::1", UnresolvedReason.MALFORMED),
        ("https://elsewhere.invalid/a b", UnresolvedReason.MALFORMED),
    ],
)
async def test_redirects_that_are_not_followed(target: str, reason: UnresolvedReason) -> None:
    """To the metadata service, to the API server, to what has no TLS, and to what is no address."""

    async def redirects(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": target})

    policy = replace(LOCAL, refused=(ip_network("10.96.0.0/12"),))
    found = await ask(redirects, settings=settings_for(addresses=policy))
    assert isinstance(found, Unresolved)
    assert found.reason is reason, str(found)
    assert "169.254" not in found.message or "metadata" in found.message


async def test_endless_redirects_end() -> None:
    """After as many as the limit."""
    seen = 0

    async def loops(request: web.Request) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        return web.Response(status=302, headers={"Location": request.path})

    await refused(loops, UnresolvedReason.MALFORMED)
    assert seen == QUICK.redirects + 1


async def test_a_redirect_to_another_host_gets_no_credential() -> None:
    """It is followed, as to the storage of a cloud, without the login of the registry."""
    seen: list[str | None] = []

    async def storage(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return await honest(request)

    async with server(storage) as other:

        async def redirects(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Authorization") != f"Basic {SECRET}":
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            return web.Response(status=307, headers={"Location": f"http://{other}{request.path}"})

        async with server(redirects) as authority, RegistryClient(settings_for(authority, other)) as client:
            keyring = Keyring.parse(json.dumps({"auths": {authority: {"auth": SECRET}}}))
            found = await client.read(f"{authority}/shop/gateway:1", keyring)
    assert isinstance(found, ImageLabels), str(found)
    assert seen == [None, None]


@pytest.mark.parametrize(
    ("realm", "reason"),
    [
        ("https://169.254.169.254/token", UnresolvedReason.ADDRESS_REFUSED),
        ("ftp://elsewhere.invalid/", UnresolvedReason.MALFORMED),
        ("not an address", UnresolvedReason.MALFORMED),
        ("https://elsewhere.invalid:99999/", UnresolvedReason.MALFORMED),
        ("https://xn--/", UnresolvedReason.MALFORMED),
        ("https://user@elsewhere.invalid/", UnresolvedReason.MALFORMED),
        ("", UnresolvedReason.MALFORMED),
    ],
)
async def test_a_realm_that_is_not_asked(realm: str, reason: UnresolvedReason) -> None:
    """A registry names its token server, so that is checked like any other address."""

    async def challenges(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    await refused(challenges, reason)


async def test_a_realm_on_another_host_gets_no_credential() -> None:
    """The login is not sent, and the message names the token server."""

    async def challenges(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="https://evil.invalid/t"'})

    async with server(challenges) as authority, RegistryClient(settings_for(authority)) as client:
        keyring = Keyring.parse(json.dumps({"auths": {authority: {"auth": SECRET}}}))
        found = await client.read(f"{authority}/shop/gateway:1", keyring)
    assert isinstance(found, Unresolved)
    assert "the token server evil.invalid, which is not of its domain" in found.message


async def test_a_token_server_that_redirects_or_gives_nonsense() -> None:
    """A login is never redirected; what is no token is none."""

    async def challenge(request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{request.host}/token",service="x"'}
        )

    for answer in (
        web.Response(status=302, headers={"Location": "https://evil.invalid/"}),
        web.Response(text="[[" * 100_000, content_type="application/json"),
        web.json_response({"token": "a\r\nHost: evil"}),
        web.json_response({"token": 7}),
        web.json_response({}),
    ):
        body, status, headers = answer.body, answer.status, answer.headers

        async def tokens(
            request: web.Request, body: object = body, status: int = status, headers: object = headers
        ) -> web.StreamResponse:
            if request.path != "/token":
                return await challenge(request)
            location = dict(headers).get("Location")  # type: ignore[call-overload]
            return web.Response(body=body, status=status, headers={"Location": location} if location else {})

        found = await ask(tokens)
        assert isinstance(found, Unresolved)
        assert found.reason in {UnresolvedReason.MALFORMED, UnresolvedReason.TOO_LARGE}, str(found)
