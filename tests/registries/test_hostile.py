"""Servers that are slow, broken or hostile: each has its outcome, in bounded time, and no credential leaves."""

import asyncio
import json
import time
from dataclasses import replace
from ipaddress import ip_network
from socket import AF_INET, AddressFamily

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from testbed.registries.images import OCI_CONFIG, REVISION, RegistryImage, digest
from tests.registries.conftest import QUICK
from tests.registries.hostile import (
    HURRIED,
    IMAGE,
    ask,
    config_manifest,
    honest,
    refused,
    server,
    settings_for,
)
from webhook.registries.addresses import AddressPolicy
from webhook.registries.client import RegistryClient
from webhook.registries.result import ImageLabels, Unresolved, UnresolvedReason
from webhook.registries.settings import RegistrySettings


async def test_the_honest_server_is_read() -> None:
    """The tests below fail for what they say and nothing else."""
    found = await ask(honest)
    assert isinstance(found, ImageLabels), str(found)
    assert (found.revision, found.digest) == ("1_a", digest(IMAGE.manifest))


async def test_a_slow_registry_is_given_up() -> None:
    """A byte every 100 ms goes on as long as the limit, whether it is the head, the body or no answer at all."""

    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.1)

    async def silent(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    for handler in (drips, silent):
        begun = time.monotonic()
        found = await ask(handler, settings=replace(settings_for(), limits=HURRIED))
        assert isinstance(found, Unresolved)
        assert found.reason is UnresolvedReason.UNREACHABLE
        assert "does not answer" in found.message
        assert HURRIED.total <= time.monotonic() - begun < HURRIED.total + 5


async def test_a_slow_token_server_is_given_up() -> None:
    """The token server's time is part of the reading's."""

    async def silent(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            await asyncio.Event().wait()
        realm = f"http://{request.host}/token"
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    found = await ask(silent, settings=replace(settings_for(), limits=HURRIED))
    assert isinstance(found, Unresolved)
    assert found.reason is UnresolvedReason.UNREACHABLE


@pytest.mark.parametrize("known", [True, False], ids=["50 MB", "endless"])
@pytest.mark.parametrize("part", ["manifests", "blobs"])
async def test_a_large_answer_is_not_read(part: str, known: bool) -> None:
    """At most the limit is received, with or without a Content-Length."""
    sent = 0

    async def large(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        if f"/{part}/" not in request.path:
            return await honest(request)
        response = web.StreamResponse()
        if known:
            response.content_length = 50_000_000
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
            sent += 65536

    await refused(large, UnresolvedReason.TOO_LARGE)
    assert sent < 8 * QUICK.manifest


async def test_compressed_answers_are_refused() -> None:
    """A few bytes would become gigabytes."""

    async def compresses(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    assert "compresses" in (await refused(compresses, UnresolvedReason.MALFORMED)).message


async def test_a_wrong_digest_is_found() -> None:
    """Of a manifest whose digest the registry or the image names, and of a config blob."""

    async def header(request: web.Request) -> web.StreamResponse:
        response = await honest(request)
        response.headers["Docker-Content-Digest"] = digest(b"another")
        return response

    async def blob(request: web.Request) -> web.StreamResponse:
        if "/blobs/" in request.path:
            return web.Response(body=RegistryImage({REVISION: "2_b"}).config)
        return await honest(request)

    for handler in (header, blob):
        await refused(handler, UnresolvedReason.WRONG_DIGEST)
    async with server(honest) as authority, RegistryClient(settings_for(authority)) as client:
        found = await client.read(f"{authority}/shop/gateway@{digest(b'another')}")
        assert isinstance(found, Unresolved)
        assert found.reason is UnresolvedReason.WRONG_DIGEST


async def test_a_busy_registry_is_asked_again() -> None:
    """After what `Retry-After` asks for; not at all where that is longer than a reading may take."""
    times: list[float] = []

    async def busy(request: web.Request) -> web.StreamResponse:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        if len(times) == 2:
            return web.Response(status=503)
        return await honest(request)

    assert isinstance(await ask(busy), ImageLabels)
    assert times[1] - times[0] >= 1

    async def tomorrow(_request: web.Request) -> web.StreamResponse:
        times.append(0)
        return web.Response(status=429, headers={"Retry-After": "3600"})

    times.clear()
    found = await refused(tomorrow, UnresolvedReason.RATE_LIMITED)
    assert (found.retry_after, found.transient, len(times)) == (3600, True, 1)


async def test_a_registry_that_fails_is_given_up() -> None:
    """After as many tries as the limit."""
    seen = 0

    async def fails(_request: web.Request) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        return web.Response(status=500)

    found = await refused(fails, UnresolvedReason.UNREACHABLE)
    assert "HTTP 500" in found.message
    assert seen == QUICK.attempts


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", UnresolvedReason.MALFORMED),
        (b"\xff\xfe", UnresolvedReason.MALFORMED),
        (b"[" * 500_000, UnresolvedReason.MALFORMED),
        (b'{"schemaVersion": 1, "fsLayers": []}', UnresolvedReason.UNSUPPORTED),
        (b'{"schemaVersion": 2}', UnresolvedReason.UNSUPPORTED),
        (b'{"schemaVersion": 2, "manifests": []}', UnresolvedReason.NO_PLATFORM),
        (
            b'{"schemaVersion": 2, "manifests": [{"digest": "../../../admin", "size": 1}]}',
            UnresolvedReason.MALFORMED,
        ),
        (b'{"schemaVersion": 2, "manifests": [], "layers": []}', UnresolvedReason.UNSUPPORTED),
        (
            config_manifest("application/vnd.cncf.helm.config.v1+json"),
            UnresolvedReason.UNSUPPORTED,
        ),
        (
            config_manifest(OCI_CONFIG, name="../../../admin"),
            UnresolvedReason.MALFORMED,
        ),
        (
            config_manifest(OCI_CONFIG, size=99_999_999_999),
            UnresolvedReason.TOO_LARGE,
        ),
        (
            json.dumps(
                {
                    "schemaVersion": 2,
                    "manifests": [{"digest": digest(b""), "size": 1, "platform": {"os": f"o{n}"}} for n in range(40)],
                }
            ).encode(),
            UnresolvedReason.TOO_LARGE,
        ),
    ],
)
async def test_manifests_that_are_none(body: bytes, reason: UnresolvedReason) -> None:
    """Each has the reason that says what it is, and nothing that it names is asked for."""
    paths: list[str] = []

    async def nonsense(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        return web.Response(body=body)

    await refused(nonsense, reason)
    assert paths == ["/v2/shop/gateway/manifests/1"]


async def test_servers_that_speak_no_http() -> None:
    """Noise, a reset, an endless header: a value in every case."""
    for noise in (b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, b"HTTP/1.1 999 \r\n\r\n"):

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, noise: bytes = noise) -> None:
            await reader.readline()
            writer.write(noise)
            writer.close()

        listener = await asyncio.start_server(talk, "127.0.0.1", 0)
        authority = f"localhost:{listener.sockets[0].getsockname()[1]}"
        async with listener, RegistryClient(settings_for(authority)) as client:
            found = await client.read(f"{authority}/x")
        assert isinstance(found, Unresolved)
        assert found.reason in {UnresolvedReason.UNREACHABLE, UnresolvedReason.MALFORMED}, str(found)


class _Rebinding(AbstractResolver):
    """A name that has another address each time."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def resolve(self, host: str, port: int = 0, family: AddressFamily = AF_INET) -> list[ResolveResult]:
        del family
        address = self._addresses.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_name_whose_address_changes() -> None:
    """Every connection is checked, by the address that it is made to: a later answer of DNS opens nothing."""

    async def closes(request: web.Request) -> web.StreamResponse:
        response = await honest(request)
        response.force_close()
        return response

    only = AddressPolicy(allowed=(ip_network("127.0.0.1/32"),))
    for second, reason in (("127.0.0.1", None), ("127.0.0.2", UnresolvedReason.ADDRESS_REFUSED)):
        async with server(closes) as local:
            authority = local.replace("localhost", "registry.example")
            async with RegistryClient(settings_for(authority, addresses=only)) as client:
                await client._resolver.close()
                client._resolver = _Rebinding("127.0.0.1", second)  # type: ignore[assignment]
                found = await client.read(f"{authority}/x")
        assert (found.reason if isinstance(found, Unresolved) else None) is reason, str(found)


async def test_registries_that_may_not_be_asked() -> None:
    """Without a request: the allow-list counts before anything is resolved."""
    settings = RegistrySettings(allowed=("ghcr.io", "*.example.com", "localhost:5000"))
    async with RegistryClient(settings) as client:
        for reference in (
            "postgres:16",
            "evil.invalid/x",
            "example.com/x",
            "localhost:5001/x",
            "ghcr.io.evil.invalid/x",
        ):
            found = await client.read(reference)
            assert isinstance(found, Unresolved)
            assert found.reason is UnresolvedReason.NOT_ALLOWED
    assert settings.allows("ghcr.io")
    assert settings.allows("registry.example.com")


async def test_addresses_that_are_refused_by_default() -> None:
    """This machine and the metadata service, however they are written."""
    async with RegistryClient(RegistrySettings(limits=QUICK)) as client:
        for host in (
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "169.254.169.254",
            "[64:ff9b::a9fe:a9fe]",
        ):
            found = await client.read(f"{host}:5000/x")
            assert isinstance(found, Unresolved)
            assert found.reason is UnresolvedReason.ADDRESS_REFUSED, str(found)


async def test_what_was_not_foreseen_is_a_value_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of the client does not end the caller; the log has it."""

    def fails(*_arguments: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("webhook.registries.repository.decode_manifest", fails)
    await refused(honest, UnresolvedReason.MALFORMED)
    assert "image_reading_failed" in caplog.text
    assert "a defect" in caplog.text
