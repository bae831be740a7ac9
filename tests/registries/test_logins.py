"""Private images: htpasswd with TLS, and a token server, with the credentials that each registry may see."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from testbed.controlplane.certificates import Authority
from testbed.registries.images import REVISION, Pusher, RegistryImage
from testbed.registries.server import PASSWORD, USER, Registry
from testbed.registries.tokens import TokenServer
from tests.registries.conftest import LOCAL, QUICK
from webhook.registries.client import RegistryClient
from webhook.registries.credentials import NO_CREDENTIALS, Keyring
from webhook.registries.result import ImageLabels, Unresolved, UnresolvedReason
from webhook.registries.settings import RegistrySettings

LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def config(authority: str, **auth: str) -> Keyring:
    """A config.json with one registry."""
    return Keyring.parse(json.dumps({"auths": {authority: auth}}))


@pytest.fixture
async def tls_client(ca_file: Path) -> AsyncIterator[RegistryClient]:
    """A client that trusts the tests' authority."""
    async with RegistryClient(RegistrySettings(addresses=LOCAL, ca_file=ca_file, limits=QUICK)) as each:
        yield each


async def test_a_password_opens_its_registry(tls_client: RegistryClient, private_image: tuple[Registry, str]) -> None:
    """However config.json writes it; a wrong one beside the right one does no harm, as with the kubelet."""
    private, image = private_image
    wrong = config(private.authority, username=USER, password="wrong")
    for keyring in (
        config(private.authority, auth=LOGIN),
        config(f"https://{private.authority}/v2/", username=USER, password=PASSWORD),
        Keyring.merged([wrong, config(private.authority, auth=LOGIN)]),
    ):
        found = await tls_client.read(image, keyring)
        assert isinstance(found, ImageLabels), str(found)
        assert found.revision == "1_a"


async def test_without_the_right_login(tls_client: RegistryClient, private_image: tuple[Registry, str]) -> None:
    """Unauthorized, and the message says whether a login is missing, wrong, or left to a helper."""
    private, image = private_image
    helper = Keyring.parse(json.dumps({"credHelpers": {private.authority: "ecr-login"}}))
    store = Keyring.parse(json.dumps({"auths": {private.authority: {}}, "credsStore": "desktop"}))
    wrong = config(private.authority, username=USER, password="wrong")
    other = config(private.authority, username="nobody", password="wrong")
    for keyring, says in (
        (NO_CREDENTIALS, "asks for a login"),
        (config("elsewhere.example", auth=LOGIN), "asks for a login"),
        (wrong, "does not accept the login"),
        (Keyring.merged([wrong, other]), "does not accept any of 2 logins"),
        (helper, "credential helper 'ecr-login', which ledgergate does not run"),
        (store, "credential helper 'desktop', which ledgergate does not run"),
    ):
        found = await tls_client.read(image, keyring)
        assert isinstance(found, Unresolved)
        assert found.reason is UnresolvedReason.UNAUTHORIZED
        assert says in str(found)
        assert PASSWORD not in str(found)


async def test_a_certificate_that_is_not_trusted(private_image: tuple[Registry, str], registry: Registry) -> None:
    """It is named as such, and so is a registry that speaks no TLS."""
    private, image = private_image
    async with RegistryClient(RegistrySettings(addresses=LOCAL, limits=QUICK)) as client:
        found = await client.read(image, config(private.authority, auth=LOGIN))
        assert isinstance(found, Unresolved)
        assert (found.reason, "is not trusted" in found.message) == (UnresolvedReason.UNTRUSTED, True)
        found = await client.read(f"{registry.authority}/x")
        assert isinstance(found, Unresolved)
        assert (found.reason, "does not speak TLS" in found.message) == (UnresolvedReason.UNTRUSTED, True)


async def test_a_file_of_authorities_that_is_missing(tmp_path: Path) -> None:
    """The result names it."""
    async with RegistryClient(RegistrySettings(addresses=LOCAL, ca_file=tmp_path / "no.pem")) as client:
        found = await client.read("localhost:1/x")
        assert isinstance(found, Unresolved)
        assert "file of certificate authorities" in found.message


@pytest.fixture
async def tokens(authority: Authority) -> AsyncIterator[tuple[TokenServer, BaseTestServer]]:
    """A token server on plain HTTP, at each address of this machine."""
    tokens = TokenServer(authority)
    app = web.Application()
    app.router.add_route("*", "/token", tokens.handle)
    async with TestServer(app) as server:
        yield tokens, server


@pytest.fixture
async def guarded(
    registry_program: str, tokens: tuple[TokenServer, BaseTestServer], tmp_path: Path
) -> AsyncIterator[Registry]:
    """A registry whose token server is on the same host, with an image that only a login opens, and a public one."""
    assert registry_program
    realm = f"http://localhost:{tokens[1].port}/token"
    with Registry(tmp_path, token=tokens[0].configuration(tmp_path, realm)) as server:
        for name in ("shop/private", "public/gateway"):
            bearer = f"Bearer {tokens[0].token(name)}"
            await Pusher(server.url, name, authorization=bearer).image(RegistryImage({REVISION: "1_a"}), "1")
        yield server


def settings_for(server: Registry) -> RegistrySettings:
    return RegistrySettings(addresses=LOCAL, plain_http=frozenset({server.authority}), limits=QUICK)


async def test_a_token_opens_its_repository(guarded: Registry, tokens: tuple[TokenServer, BaseTestServer]) -> None:
    """By password and by identity token; a public image needs no login. One token serves a whole reading."""
    async with RegistryClient(settings_for(guarded)) as client:
        for keyring in (
            config(guarded.authority, auth=LOGIN),
            config(guarded.authority, identitytoken=PASSWORD, username="<token>"),
        ):
            tokens[0].requests.clear()
            found = await client.read(f"{guarded.authority}/shop/private:1", keyring)
            assert isinstance(found, ImageLabels), str(found)
            assert found.revision == "1_a"
            (query,) = tokens[0].requests
            assert (query["service"], query["scope"]) == ("test-registry", "repository:shop/private:pull")
        found = await client.read(f"{guarded.authority}/public/gateway:1")
        assert isinstance(found, ImageLabels), str(found)


async def test_a_token_that_is_not_given(guarded: Registry) -> None:
    """Unauthorized: without a login, and with a wrong one."""
    async with RegistryClient(settings_for(guarded)) as client:
        for keyring, says in (
            (NO_CREDENTIALS, "asks for a login"),
            (config(guarded.authority, username=USER, password="wrong"), "does not accept the login"),
            (config(guarded.authority, identitytoken="wrong"), "does not accept the login"),
            (config(guarded.authority, registrytoken="wrong"), "does not accept the login"),
        ):
            found = await client.read(f"{guarded.authority}/shop/private:1", keyring)
            assert isinstance(found, Unresolved)
            assert found.reason is UnresolvedReason.UNAUTHORIZED
            assert says in found.message


async def test_a_token_server_on_another_host_sees_no_credential(
    registry_program: str, tokens: tuple[TokenServer, BaseTestServer], tmp_path: Path
) -> None:
    """It gives anonymous tokens; the registry's login goes there only where the operator names the host."""
    assert registry_program
    realm = f"http://127.0.0.1:{tokens[1].port}/token"  # the registry is at localhost
    with Registry(tmp_path, token=tokens[0].configuration(tmp_path, realm)) as server:
        bearer = f"Bearer {tokens[0].token('shop/private')}"
        await Pusher(server.url, "shop/private", authorization=bearer).image(RegistryImage({REVISION: "1_a"}), "1")
        reference, keyring = f"{server.authority}/shop/private:1", config(server.authority, auth=LOGIN)
        async with RegistryClient(settings_for(server)) as client:
            found = await client.read(reference, keyring)
            assert isinstance(found, Unresolved)
            assert "the token server 127.0.0.1, which is not of its domain" in found.message
        assert set(tokens[0].logins) <= {None}
        named = replace(settings_for(server), token_hosts={server.authority: frozenset({"127.0.0.1"})})
        async with RegistryClient(named) as client:
            assert isinstance(await client.read(reference, keyring), ImageLabels)
        assert f"Basic {LOGIN}" in tokens[0].logins


async def test_a_mirror_is_asked_first(
    registry: Registry, pusher: Pusher, repository: str, private_image: tuple[Registry, str], ca_file: Path
) -> None:
    """Its answer counts; where it has none, the registry itself is asked. Neither gets the other's login."""
    private, image = private_image
    await pusher.image(RegistryImage({REVISION: "2_mirrored"}), "1")
    settings = RegistrySettings(
        addresses=LOCAL,
        ca_file=ca_file,
        plain_http=frozenset({registry.authority}),
        mirrors={private.authority: ("localhost:1", registry.authority)},
        limits=QUICK,
    )
    name = image.removesuffix(":1")
    async with RegistryClient(settings) as client:
        found = await client.read(f"{private.authority}/{repository}:1", config(private.authority, auth=LOGIN))
        assert isinstance(found, ImageLabels), str(found)
        assert found.revision == "2_mirrored"
        await Pusher(
            private.url,
            repository,
            trust=ssl.create_default_context(cafile=str(ca_file)),
            authorization=f"Basic {LOGIN}",
        ).image(RegistryImage({REVISION: "3_own"}), "3")
        found = await client.read(f"{name}:3", config(private.authority, auth=LOGIN))
        assert isinstance(found, ImageLabels), str(found)
        assert found.revision == "3_own"
