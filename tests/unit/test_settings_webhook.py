"""Settings are checked before anything starts, and every problem is reported at once."""

import socket
from pathlib import Path

import pytest

from webhook.settings import ControllerSettings, Endpoint, Settings, SettingsError, WebhookSettings, read_namespace

METRICS = Endpoint("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9443", "127.0.0.1", 9443),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    """Each way to write an address to listen on."""
    assert Endpoint.parse(text) == Endpoint(host, port)


@pytest.mark.parametrize("without", [False, True])
def test_no_host_is_every_address(monkeypatch: pytest.MonkeyPatch, without: bool) -> None:
    """IPv4 and IPv6 alike; IPv4 alone where the kernel has no IPv6, which would refuse the start."""
    if without:
        monkeypatch.setattr(socket, "AF_INET6", 9999)  # a family that no kernel has
    elif not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    endpoint = Endpoint.parse(":8080")
    assert endpoint == Endpoint("0.0.0.0" if without else None, 8080)  # noqa: S104 - every address
    assert str(endpoint) == ("0.0.0.0:8080" if without else ":8080")
    assert str(Endpoint("::1", 1)) == "[::1]:1"


@pytest.mark.parametrize("text", ["", "9443", "host", "host:", "host:x", "host:-1", "host:65536", "host:²", "host:٤٢"])
def test_other_text_is_not_an_endpoint(text: str) -> None:
    """The message shows what was given and what is expected."""
    with pytest.raises(SettingsError, match="expected HOST:PORT") as refusal:
        Endpoint.parse(text)
    assert repr(text) in str(refusal.value)


def test_good_settings_have_no_problems(tmp_path: Path) -> None:
    """Valid settings have no problems, whether every one is set or only the required ones."""
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    settings = Settings("pod-1", METRICS, "system-x1", kubeconfig, "https://10.0.0.1:9443/")
    assert settings.problems() == []
    assert Settings("pod-1", METRICS).problems() == []


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """Each problem names its flag."""
    settings = Settings("pod-1", METRICS, "No_Namespace", tmp_path / "missing", "http://host:1")
    assert [problem.split(":", maxsplit=1)[0] for problem in settings.problems()] == [
        "--namespace",
        "--kubeconfig",
        "--webhook-url",
    ]


def test_a_config_json_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    """The controller refuses to start where the logins that a flag names are not there, and names the flag."""
    logins = tmp_path / "config.json"
    settings = ControllerSettings("pod-1", METRICS, registry_config=logins, allowed_database_hosts=("a b",))
    assert [problem.split(":", maxsplit=1)[0] for problem in settings.problems()] == [
        "--allowed-database-hosts",
        "--registry-config",
    ]
    logins.touch()
    assert ControllerSettings("pod-1", METRICS, registry_config=logins).problems() == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:9443",
        "http://host:9443",
        "https://",
        "https://:9443",
        "https://host:9443/path",
        "https://host:9443?a=b",
        "https://host:9443#a",
        "https://jane:secret@host:9443",
        "https://host:99999",
        "https://host:x",
        "https://[::1:9443",
    ],
)
def test_a_url_that_the_api_server_cannot_call_is_refused(url: str) -> None:
    """The problem shows the expected form and no password; a URL that cannot be parsed is no crash."""
    (problem,) = Settings("pod-1", METRICS, webhook_url=url).problems()
    assert "https://HOST:PORT" in problem
    assert "secret" not in problem


@pytest.mark.parametrize("namespace", ["a.b", "-a", "a-", "A", "a\n", "é", ""])
def test_namespaces(namespace: str) -> None:
    """A namespace is a DNS label."""
    assert Settings("pod-1", METRICS, namespace).problems()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Host.Example:9443", "host.example"),
        ("https://127.0.0.1:9443", "127.0.0.1"),
        ("https://[0:0::1]:9443", "::1"),
    ],
)
def test_the_certificate_covers_every_name_of_the_webhook(url: str, host: str) -> None:
    """The Service's names, and the URL's host in the form in which TLS clients compare it."""
    service = ("ledgergate-webhook.ns.svc", "ledgergate-webhook.ns.svc.cluster.local")
    assert WebhookSettings("pod-1", METRICS, "ns").names == service
    assert WebhookSettings("pod-1", METRICS, "ns", webhook_url=url).names == (*service, host)


def test_the_namespace_is_the_one_that_is_given() -> None:
    """Outside a pod it is ledgergate unless given."""
    assert read_namespace("mine") == "mine"
    assert read_namespace(None) == "ledgergate"
    assert read_namespace("") == "ledgergate"


def test_a_certificate_needs_its_key() -> None:
    """One file without the other is refused before anything starts."""
    with_both = WebhookSettings("pod-1", METRICS, tls_cert_file=Path("tls.crt"), tls_key_file=Path("tls.key"))
    assert with_both.problems() == []
    for alone in (
        WebhookSettings("pod-1", METRICS, "B", tls_cert_file=Path("tls.crt")),
        WebhookSettings("pod-1", METRICS, "B", tls_key_file=Path("tls.key")),
    ):
        assert [problem.split(":")[0] for problem in alone.problems()] == [
            "--namespace",
            "--tls-cert-file and --tls-key-file",
        ]
