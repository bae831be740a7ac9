"""How registries are asked: which ones, at which addresses, how long and how much."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from webhook.core.proxies import NO_PROXIES, Proxies
from webhook.registries.addresses import AddressPolicy
from webhook.registries.reference import DOCKER_HUB, is_registry


@dataclass(frozen=True, slots=True)
class RegistryLimits:
    """What a registry may take of time and memory."""

    total: float = 20.0
    """Seconds for one image, with every request, redirect, token and try. An image is read once and then remembered."""
    connect: float = 4.0
    """Seconds to connect; a registry that does not answer is found out in time for a second try."""
    request: float = 8.0
    """Seconds for one request with its body."""
    attempts: int = 3
    """Tries of a request that got no answer, 429 or 5xx."""
    backoff: float = 0.3
    """Seconds before the second try, twice as many before each further one; ``Retry-After`` counts instead."""
    redirects: int = 5
    """Redirects of one request. Docker Hub and the clouds need one, to their storage."""
    manifest: int = 4 * 1024 * 1024
    """Bytes of a manifest or an index: the specification lets registries refuse larger ones."""
    config: int = 4 * 1024 * 1024
    """Bytes of a config blob; usual ones have 10 KB."""
    token: int = 64 * 1024
    """Bytes of a token server's answer."""
    platforms: int = 32
    """Images of an index that are read. Docker's official images have 10."""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Settings of the registry client."""

    allowed: tuple[str, ...] = ()
    """Registries that may be asked, as HOST[:PORT] with ``*`` for any part of it; empty for all."""

    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    """Which addresses are refused, after resolution."""

    plain_http: frozenset[str] = frozenset()
    """Registries and mirrors, HOST[:PORT], that are asked without TLS."""

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Registry to mirrors of it, HOST[:PORT], that are asked before it. They get no credential but their own."""

    token_hosts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Registry to hosts of token servers that may see its credentials, beside the registry's own domain."""

    ca_file: Path | None = None
    """PEM file of further certificate authorities; it is read again when it has changed."""

    proxies: Proxies = NO_PROXIES
    """Proxies; a proxy resolves names itself, so it must itself refuse the addresses that it should not reach."""

    search_domains: bool = False
    """Whether a name may be completed by the search domains of resolv.conf. In a pod they lead to Services:
    ``gateway.shop`` would be one."""

    limits: RegistryLimits = field(default_factory=RegistryLimits)

    def problems(self) -> list[str]:
        """Return every problem, each with the setting that it is in."""
        named = {
            "allowed registry": [pattern.replace("*", "x") for pattern in self.allowed],
            "registry without TLS": self.plain_http,
            "registry with a mirror": self.mirrors,
            "mirror": [mirror for mirrors in self.mirrors.values() for mirror in mirrors],
            "registry with a token server": self.token_hosts,
            "token server": [host for hosts in self.token_hosts.values() for host in hosts],
        }
        found = [
            f"{kind}: expected HOST[:PORT] in small letters, got {text!r}"
            for kind, texts in named.items()
            for text in sorted(texts)
            if not is_registry(text) or text != text.lower()
        ]
        if self.ca_file is not None and not self.ca_file.is_file():
            found.append(f"certificate authorities: expected a PEM file, found no {self.ca_file}")
        return found

    def allows(self, registry: str) -> bool:
        """Return whether a registry may be asked."""
        return not self.allowed or any(fnmatchcase(registry, pattern) for pattern in self.allowed)

    def scheme(self, authority: str) -> str:
        """Return the scheme of requests to HOST[:PORT]."""
        return "http" if authority in self.plain_http else "https"

    def endpoints(self, registry: str) -> tuple[str, ...]:
        """Return the HOST[:PORT] of each server that has a registry's images, in the order in which to ask them."""
        own = "registry-1.docker.io" if registry == DOCKER_HUB else registry
        return (*self.mirrors.get(registry, ()), own)
