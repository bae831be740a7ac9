"""HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read as Go programs such as kubelet and containerd read them. Pure.

Source: https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_WITH_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>[0-9]*)")


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxies and what is reached without them.

    Args:
        by_scheme: URL of the proxy for ``http`` and for ``https``.
        direct: entries of NO_PROXY in small letters: a host and its subdomains, ``.host`` for the subdomains alone, an
            address, each with a port or without; a network. Loopback addresses and localhost are direct without one.
    """

    by_scheme: Mapping[str, str]
    direct: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Proxies":
        """Read the variables, in upper or lower case; upper case counts first."""

        def value(name: str) -> str:
            return environment.get(name) or environment.get(name.lower()) or ""

        found = {scheme: value(f"{scheme.upper()}_PROXY") for scheme in ("http", "https")}
        direct = tuple(entry for part in value("NO_PROXY").split(",") if (entry := part.strip().lower()))
        return cls({scheme: _with_scheme(url) for scheme, url in found.items() if url}, direct)

    def find(self, scheme: str, host: str, port: int) -> str | None:
        """Return the URL of the proxy for a request; None for a direct one."""
        host = host.lower().rstrip(".").strip("[]")
        if _is_loopback(host) or any(_matches(entry, host, port) for entry in self.direct):
            return None
        return self.by_scheme.get(scheme)


NO_PROXIES = Proxies({})


def _with_scheme(url: str) -> str:
    return url if "://" in url else f"http://{url}"


def _matches(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of NO_PROXY names a host; ``.y.com`` names the subdomains of y.com alone."""
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ip_network(entry, strict=False)
        except ValueError:
            return False
    if found := _WITH_PORT.fullmatch(entry):
        if found["port"] not in {"", str(port)}:
            return False
        entry = found["host"].strip("[]")
    if (wanted := _address(entry)) is not None:
        return address == wanted
    domain = entry.removeprefix("*") if entry.startswith("*.") else entry
    return host == domain or host.endswith(domain if domain.startswith(".") else f".{domain}")


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
