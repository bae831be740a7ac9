"""A registry behind a proxy, with and without TLS."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest

from testbed.registries.images import REVISION, Pusher, RegistryImage
from testbed.registries.server import PASSWORD, USER, Registry
from tests.registries.conftest import QUICK
from webhook.core.proxies import Proxies
from webhook.registries.addresses import AddressPolicy
from webhook.registries.client import RegistryClient
from webhook.registries.credentials import Keyring
from webhook.registries.result import ImageLabels, Unresolved, UnresolvedReason
from webhook.registries.settings import RegistrySettings


@dataclass
class Proxy:
    """A proxy that connects every request to one address.

    Args:
        target: port of 127.0.0.1.
        heads: the first line and the headers of each request.
    """

    target: int
    heads: list[bytes] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: CONNECT, or requests in absolute form."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            method, url, rest = head.split(b" ", 2)
            path = b"/" + url.split(b"/", 3)[3]
            upstream.write(b" ".join((method, path, rest.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))))
        with suppress(ConnectionError):
            await asyncio.gather(self._pump(reader, upstream), self._pump(upstream_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[tuple[Proxy, str]]:
    """Run a proxy and yield it with its URL, which has a password."""
    each = Proxy(target)
    listener = await asyncio.start_server(each.handle, "127.0.0.1", 0)
    async with listener:
        yield each, f"http://user:secret@127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def test_a_proxy_reaches_what_this_machine_cannot(registry: Registry, pusher: Pusher, repository: str) -> None:
    """The registry's name is resolved by the proxy, and so is one that has no address here."""
    await pusher.image(RegistryImage({REVISION: "1_a"}), "1")
    async with proxy(registry.port) as (used, url):
        settings = RegistrySettings(
            plain_http=frozenset({"registry.invalid:5000"}),
            proxies=Proxies.from_environment({"HTTP_PROXY": url, "NO_PROXY": "direct.invalid"}),
            limits=QUICK,
        )
        async with RegistryClient(settings) as client:
            found = await client.read(f"registry.invalid:5000/{repository}:1")
            assert isinstance(found, ImageLabels), str(found)
            count = len(used.heads)
            direct = await client.read("direct.invalid/x")
            assert isinstance(direct, Unresolved)
            assert len(used.heads) == count
    assert used.heads[0].startswith(b"GET http://registry.invalid:5000/v2/")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:secret") in used.heads[0]


async def test_tls_goes_through_a_proxy(private_image: tuple[Registry, str], ca_file: Path, repository: str) -> None:
    """As a tunnel, in which the registry's certificate counts and the proxy sees no login."""
    server, _ = private_image
    authority = f"registry.invalid:{server.port}"  # localhost would be reached without the proxy
    async with proxy(server.port) as (used, url):
        settings = RegistrySettings(
            ca_file=ca_file, proxies=Proxies.from_environment({"https_proxy": url}), limits=QUICK
        )
        keyring = Keyring.parse(json.dumps({"auths": {authority: {"username": USER, "password": PASSWORD}}}))
        async with RegistryClient(settings) as client:
            found = await client.read(f"{authority}/{repository}:1", keyring)
    assert isinstance(found, ImageLabels), str(found)
    assert used.heads
    for head in used.heads:
        assert head.startswith(f"CONNECT {authority} ".encode())
        assert b"\r\nAuthorization" not in head


@pytest.mark.parametrize("host", ["169.254.169.254", "10.96.0.1"])
async def test_an_address_is_refused_before_a_proxy_sees_it(host: str) -> None:
    """What stands in the image's name as an address is checked here: a proxy may reach more than it should."""
    async with proxy(1) as (used, url):
        settings = RegistrySettings(
            addresses=AddressPolicy(refused=(ip_network("10.96.0.0/12"),)),
            proxies=Proxies.from_environment({"HTTPS_PROXY": url}),
            limits=QUICK,
        )
        async with RegistryClient(settings) as client:
            found = await client.read(f"{host}/x")
    assert isinstance(found, Unresolved)
    assert found.reason is UnresolvedReason.ADDRESS_REFUSED
    assert used.heads == []


async def test_a_proxy_that_is_down() -> None:
    """Unreachable, without the proxy's address or password in the message."""
    settings = RegistrySettings(
        proxies=Proxies.from_environment({"HTTPS_PROXY": "http://user:secret@127.0.0.1:1"}), limits=QUICK
    )
    async with RegistryClient(settings) as client:
        found = await client.read("ghcr.io/x/y")
    assert isinstance(found, Unresolved)
    assert found.reason is UnresolvedReason.UNREACHABLE
    assert "secret" not in str(found)
    assert "127.0.0.1" not in str(found)
