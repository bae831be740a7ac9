"""A registry server of each kind, and clients that may reach this machine."""

import base64
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from testbed.controlplane.certificates import Authority
from testbed.registries.images import REVISION, Pusher, RegistryImage
from testbed.registries.server import PASSWORD, USER, Registry
from testbed.tools.debian import program
from testbed.tools.install import InstallError
from webhook.registries.addresses import AddressPolicy
from webhook.registries.client import RegistryClient
from webhook.registries.settings import RegistryLimits, RegistrySettings

LOCAL = AddressPolicy(allowed=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
"""Reaches the servers of the tests, which are on this machine."""
QUICK = RegistryLimits(total=5, request=2, connect=1, backoff=0.01)


@pytest.fixture(scope="session")
def registry_program() -> str:
    """Debian's package, unpacked into the cache; without apt the tests are skipped."""
    try:
        return program("docker-registry")[0]
    except InstallError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The certificate authority of the test servers."""
    return Authority(datetime.now(UTC))


@pytest.fixture(scope="session")
def ca_file(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(authority.pem)
    return path


@pytest.fixture(scope="session")
def trust(ca_file: Path) -> ssl.SSLContext:
    """Trusts the test servers."""
    return ssl.create_default_context(cafile=str(ca_file))


@pytest.fixture(scope="session")
def registry(registry_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry on plain HTTP that anybody may write to."""
    assert registry_program
    with Registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return f"shop/{request.node.originalname.replace('_', '-')}"


@pytest.fixture
def pusher(registry: Registry, repository: str) -> Pusher:
    """Pushes to the test's own repository."""
    return Pusher(registry.url, repository)


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[RegistryClient]:
    """A client for the plain registry."""
    settings = RegistrySettings(addresses=LOCAL, plain_http=frozenset({registry.authority}), limits=QUICK)
    async with RegistryClient(settings) as each:
        yield each


@pytest.fixture(scope="session")
def private(
    registry_program: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """A registry with TLS and a password."""
    assert registry_program
    pair = authority.server(["localhost", "registry.invalid"], ["127.0.0.1"])
    with Registry(tmp_path_factory.mktemp("private"), tls=pair, htpasswd=True) as server:
        yield server


@pytest.fixture
async def private_image(private: Registry, trust: ssl.SSLContext, repository: str) -> tuple[Registry, str]:
    """The registry with a password, and an image in it."""
    login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    pusher = Pusher(private.url, repository, trust=trust, authorization=login)
    await pusher.image(RegistryImage({REVISION: "1_a"}), "1")
    return private, f"{private.authority}/{repository}:1"
