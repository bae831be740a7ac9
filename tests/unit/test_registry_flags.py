"""The controller's flags about registries."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import pytest

from webhook.cli.registry_flags import read_registry_settings

NONE: dict[str, Any] = {
    "allowed": (),
    "plain_http": (),
    "mirrors": (),
    "token_hosts": (),
    "ca_file": None,
    "allowed_networks": (),
    "refused_networks": (),
}


def test_every_flag_becomes_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server's address is refused too, as the pod's environment names it."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    settings = read_registry_settings(
        NONE
        | {
            "allowed": ("*.example.com",),
            "plain_http": ("registry:5000",),
            "mirrors": ("docker.io=one.example", "docker.io=two.example"),
            "token_hosts": ("a.example=b.example",),
            "allowed_networks": ("fd00::/8",),
            "refused_networks": ("10.96.0.0/12",),
        }
    )
    assert settings.allowed == ("*.example.com",)
    assert settings.plain_http == {"registry:5000"}
    assert settings.mirrors == {"docker.io": ("one.example", "two.example")}
    assert settings.token_hosts == {"a.example": {"b.example"}}
    assert settings.addresses.allowed == (ip_network("fd00::/8"),)
    assert settings.addresses.refused == (ip_network("10.96.0.0/12"), ip_network("10.96.0.1/32"))


def test_all_problems_are_reported_at_once() -> None:
    """Each with what is expected."""
    wrong = NONE | {
        "allowed": ("https://ghcr.io",),
        "mirrors": ("docker.io",),
        "refused_networks": ("services",),
        "ca_file": Path("/nowhere/ca.pem"),
    }
    with pytest.raises(click.UsageError) as raised:
        read_registry_settings(wrong)
    message = str(raised.value)
    for part in ("--registry-refuse-network", "'services'", "--registry-mirror", "https://ghcr.io", "/nowhere/ca.pem"):
        assert part in message
