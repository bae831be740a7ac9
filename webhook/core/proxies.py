"""HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read as Go programs such as kubelet and containerd read them. Pure.

Source: https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxies and what is reached without them.

    Args:
        by_scheme: URL of the proxy for ``http`` and for ``https``.
        direct: entries of NO_PROXY: a host and its subdomains, an address, a network, each with a port or without.
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
        proxy = self.by_scheme.get(scheme)
        if proxy is None or any(_matches(entry, host.lower().rstrip("."), port) for entry in self.direct):
            return None
        return proxy


NO_PROXIES = Proxies({})


def _with_scheme(url: str) -> str:
    return url if "://" in url else f"http://{url}"


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        pass  # the host is not an address, or the entry not a network
    name, colon, only = entry.rpartition(":")
    if colon and only.isdigit():
        if int(only) != port:
            return False
        entry = name.strip("[]")
    entry = entry.removeprefix("*")
    return host == entry.lstrip(".") or host.endswith(f".{entry.lstrip('.')}")
