"""How the API server is reached, and as whom: by kubectl's rules."""

from pathlib import Path

import pytest
import yaml
from aiohttp import web

from webhook.kube.kubeconfig import ClusterTarget, KubeconfigError, connect, connect_to
from webhook.kube.session import find_proxy, impersonation

PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("https://10.96.0.1:443", "", False),
        ("https://10.96.0.1:443", "10.0.0.0/8", True),
        ("https://10.96.0.1:443", "192.168.0.0/16,10.96.0.0/12", True),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://api.example.com:6443", ".example.com", True),
        ("https://api.example.com:6443", "example.com:443", False),
        ("https://api.example.com", "example.com:443", True),
        ("https://127.0.0.1:6443", "", True),
        ("https://[::1]:6443", "", True),
        ("https://localhost:6443", "", True),
    ],
)
def test_the_proxy_by_go_s_rules(host: str, no_proxy: str, direct: bool) -> None:
    """NO_PROXY may have networks; this machine is never reached by a proxy."""
    for names in (("HTTPS_PROXY", "NO_PROXY"), ("https_proxy", "no_proxy")):
        environment = dict(zip(names, (PROXY, no_proxy), strict=True))
        assert find_proxy(host, environment) == (None if direct else PROXY)
    assert find_proxy(host, {"HTTP_PROXY": PROXY}) is None, "the API server is reached by https"


def test_the_headers_of_another_user() -> None:
    """User, uid, each group, and each extra value, whose key is escaped."""
    user = {"as": "jane", "as-uid": "7", "as-groups": ["dev", "ops"], "as-user-extra": {"Example.com/a": ["x", "y"]}}
    assert list(impersonation(user)) == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-example.com%2Fa", "x"),
        ("Impersonate-Extra-example.com%2Fa", "y"),
    ]
    assert list(impersonation({"token": "x"})) == []


@pytest.mark.parametrize(
    "user", [{"as": 7}, {"as-groups": ["a"]}, {"as": "a", "as-groups": "a"}, {"as": "a", "as-user-extra": {"k": "v"}}]
)
def test_a_user_that_is_not_one(user: dict[str, object]) -> None:
    """Running with other rights than the file asks for would be worse than not running."""
    with pytest.raises(ValueError, match=r"users\[\]\.user: expected"):
        list(impersonation(user))


def kubeconfig(directory: Path, user: dict[str, object], server: str = "https://10.0.0.1") -> Path:
    path = directory / "config"
    named = {"clusters": [{"name": "x", "cluster": {"server": server}}], "users": [{"name": "x", "user": user}]}
    contexts = [{"name": "x", "context": {"cluster": "x", "user": "x"}}]
    path.write_text(yaml.safe_dump({**named, "contexts": contexts, "current-context": "x"}))
    return path


async def test_every_request_has_them(tmp_path: Path) -> None:
    """The clients for reads and for writes both send the headers; the line end of a token file is not sent."""
    seen: list[web.BaseRequest] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        return web.json_response({})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "token").write_text("abc\n")
    user: dict[str, object] = {"tokenFile": "token", "as": "jane", "as-groups": ["dev", "ops"]}
    path = kubeconfig(tmp_path, user, f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with connect_to(ClusterTarget(path)) as (cluster, _):
        await cluster.request("GET", "/api")
        await cluster.get("/api", {})
    await runner.cleanup()
    assert len(seen) == 2
    for request in seen:
        assert request.headers["Authorization"] == "Bearer abc"
        assert request.headers["Impersonate-User"] == "jane"
        assert request.headers.getall("Impersonate-Group") == ["dev", "ops"]


@pytest.mark.parametrize("user", [{"token": "a\nb"}, {"token": "é"}, {"token": "a", "as-groups": ["b"]}])
async def test_what_cannot_work_is_an_error_of_the_kubeconfig(tmp_path: Path, user: dict[str, object]) -> None:
    """It names the file, and shows no token."""
    path = kubeconfig(tmp_path, user)
    with pytest.raises(KubeconfigError) as refusal:
        await connect(path, "test")
    assert str(path) in str(refusal.value)


async def test_a_user_id_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenShift assigns them: no entry in /etc/passwd, perhaps no HOME; the pod's service account is used."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(KubeconfigError, match="Service host/port is not set"):
        async with connect_to(ClusterTarget()):
            pass


async def test_the_proxy_of_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's, unless the kubeconfig has its own; NO_PROXY with a network is direct."""
    path = kubeconfig(tmp_path, {"token": "a"})

    async def proxy() -> tuple[str | None, bool]:
        async with await connect(path, "test") as cluster:
            session = cluster.client.rest_client.pool_manager
            return cluster.client.rest_client.proxy, session.trust_env

    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert await proxy() == (PROXY, False)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    assert await proxy() == (None, False)
    monkeypatch.delenv("NO_PROXY")
    text = yaml.safe_load(path.read_text())
    text["clusters"][0]["cluster"]["proxy-url"] = "http://other:1"
    path.write_text(yaml.safe_dump(text))
    assert await proxy() == ("http://other:1", False)
