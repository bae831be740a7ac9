"""Servers of the tests that stand in a registry's place, and what is asked of them."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import web
from aiohttp.test_utils import TestServer

from testbed.registries.images import REVISION, RegistryImage, digest
from tests.registries.conftest import LOCAL, QUICK
from webhook.registries.addresses import AddressPolicy
from webhook.registries.client import RegistryClient
from webhook.registries.credentials import NO_CREDENTIALS, Keyring
from webhook.registries.result import ImageLabels, Unresolved, UnresolvedReason
from webhook.registries.settings import RegistrySettings

IMAGE = RegistryImage({REVISION: "1_a"})
HURRIED = replace(QUICK, total=1.2, request=0.5)
SECRET = base64.b64encode(b"puller:s3cret").decode()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def honest(request: web.Request) -> web.StreamResponse:
    """Answer as a registry does that has IMAGE under every name."""
    if "/blobs/" in request.path:
        return web.Response(body=IMAGE.config)
    return web.Response(body=IMAGE.manifest, content_type=IMAGE.media_type)


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    """Run a server on 127.0.0.1 and yield its HOST:PORT; a handler that still runs at the end is cancelled."""
    app = web.Application(handler_args={"handler_cancellation": True})
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as running:
        yield f"localhost:{running.port}"


def config_manifest(kind: str, name: str = digest(b""), size: int = 1) -> bytes:
    """A manifest that names a config blob."""
    return json.dumps({"schemaVersion": 2, "config": {"mediaType": kind, "digest": name, "size": size}}).encode()


def settings_for(*authorities: str, addresses: AddressPolicy = LOCAL) -> RegistrySettings:
    return RegistrySettings(addresses=addresses, plain_http=frozenset(authorities), limits=QUICK)


async def ask(
    handler: Handler, keyring: Keyring = NO_CREDENTIALS, *, settings: RegistrySettings | None = None
) -> ImageLabels | Unresolved:
    async with server(handler) as authority, RegistryClient(settings or settings_for(authority)) as client:
        if settings is not None:
            client._settings = replace(settings, plain_http=settings.plain_http | {authority})
        return await client.read(f"{authority}/shop/gateway:1", keyring)


async def refused(handler: Handler, reason: UnresolvedReason, keyring: Keyring = NO_CREDENTIALS) -> Unresolved:
    found = await ask(handler, keyring)
    assert isinstance(found, Unresolved), found
    assert found.reason is reason, str(found)
    assert len(str(found)) < 500
    assert str(found).isprintable()
    return found
