"""The controller's flags about registries, and the settings that they make."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from migrations.cli.conventions import flag
from webhook.core.proxies import Proxies
from webhook.registries.addresses import AddressPolicy, cluster_networks, parse_networks
from webhook.registries.settings import RegistrySettings

Function = TypeVar("Function", bound=Callable[..., Any])

_NAMES = {
    "registry": "allowed",
    "registry_plain_http": "plain_http",
    "registry_mirror": "mirrors",
    "registry_token_host": "token_hosts",
    "registry_ca_file": "ca_file",
    "registry_allow_network": "allowed_networks",
    "registry_refuse_network": "refused_networks",
}


def registry_flags(command: Function) -> Callable[..., Any]:
    """Add the flags to a command, which gets them as `registry_config` and as the one argument `registries`."""

    @wraps(command)
    def run(**arguments: Any) -> Any:
        registries = {name: arguments.pop(argument) for argument, name in _NAMES.items()}
        return command(registries=registries, **arguments)

    flags = (
        flag(
            "--registry",
            "HOST[:PORT] of a registry that may be asked what an image needs, with * for any part; may be repeated. "
            "Without it: every registry.",
            multiple=True,
        ),
        flag(
            "--registry-config",
            "Docker's config.json with logins of registries, for every namespace.",
            type=click.Path(path_type=Path),
        ),
        flag(
            "--registry-ca-file",
            "PEM file of further certificate authorities of registries.",
            type=click.Path(path_type=Path),
        ),
        flag("--registry-plain-http", "HOST[:PORT] of a registry without TLS; may be repeated.", multiple=True),
        flag(
            "--registry-mirror",
            "REGISTRY=HOST[:PORT] of a mirror, which is asked first; may be repeated.",
            multiple=True,
        ),
        flag(
            "--registry-token-host",
            "REGISTRY=HOST of a token server outside the registry's domain that may see its logins; may be repeated.",
            multiple=True,
        ),
        flag(
            "--registry-allow-network",
            "Network, such as 10.0.0.0/8, that a registry may be in although refused by default; may be repeated.",
            multiple=True,
        ),
        flag(
            "--registry-refuse-network",
            "Network in which no registry may be; may be repeated. Before Kubernetes 1.33: that of the cluster's "
            "Services, which is refused by itself from then on.",
            multiple=True,
        ),
    )
    decorated: Callable[..., Any] = run
    for declare in reversed(flags):
        decorated = declare(decorated)
    return decorated


def read_registry_settings(registries: dict[str, Any]) -> RegistrySettings:
    """Return the settings.

    Raises:
        click.UsageError: some are wrong; the message lists all of them.
    """
    problems: list[str] = []
    allowed = _networks("--registry-allow-network", registries["allowed_networks"], problems)
    refused = _networks("--registry-refuse-network", registries["refused_networks"], problems)
    mirrors = _pairs("--registry-mirror", registries["mirrors"], problems)
    hosts = _pairs("--registry-token-host", registries["token_hosts"], problems)
    settings = RegistrySettings(
        allowed=tuple(registries["allowed"]),
        addresses=AddressPolicy(allowed, (*refused, *cluster_networks(os.environ))),
        plain_http=frozenset(registries["plain_http"]),
        mirrors={registry: tuple(named) for registry, named in mirrors.items()},
        token_hosts={registry: frozenset(named) for registry, named in hosts.items()},
        ca_file=registries["ca_file"],
        proxies=Proxies.from_environment(os.environ),
    )
    if problems := [*problems, *settings.problems()]:
        raise click.UsageError("\n".join(problems))
    return settings


def _networks(name: str, texts: tuple[str, ...], problems: list[str]) -> tuple[Any, ...]:
    try:
        return parse_networks(texts)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return ()


def _pairs(name: str, texts: tuple[str, ...], problems: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        registry, equals, host = text.partition("=")
        if not (registry and equals and host):
            problems.append(f"{name}: expected REGISTRY=HOST[:PORT], got {text!r}")
        else:
            found.setdefault(registry, []).append(host)
    return found
