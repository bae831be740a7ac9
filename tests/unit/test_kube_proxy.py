"""Which proxy connects to the API server."""

from pathlib import Path

import pytest
from kubernetes_asyncio.client import Configuration

from webhook.kube.client import KubeClient
from webhook.kube.kubeconfig import _client


async def connected(configuration: Configuration) -> KubeClient:
    """Return a client, without a connection."""
    async with _client(configuration, "test") as found:
        return found


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, None, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128", "no_proxy": ".example.com"}, None, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, None, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://other:1", "http://other:1"),
    ],
)
async def test_the_proxy_is_the_kubeconfigs_or_the_environments(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], given: str | None, expected: str | None
) -> None:
    """As kubectl does: proxy-url of the kubeconfig, else HTTPS_PROXY, unless NO_PROXY excludes the host."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configuration = Configuration(host="https://api.example.com:6443")
    configuration.proxy = given
    assert (await connected(configuration)).client.rest_client.proxy == expected


async def test_a_login_of_netrc_is_not_sent_to_the_api_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials in ~/.netrc belong to other programs; beside a bearer token they would make every request fail."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    found = await connected(Configuration(host="https://api.example.com:6443"))
    assert not found.client.rest_client.pool_manager.trust_env
