"""The addresses that a registry, a redirect or a token server may have. Pure.

An image reference is a tenant's text, and so is what its registry answers. ledgergate must not become the way to a
server that the tenant cannot reach himself: the node's metadata service, the API server, a port of its own pod.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from migrations.core.networks import LINK_LOCAL, METADATA, Network, is_within, with_embedded_ipv4

Address = IPv4Address | IPv6Address

_REFUSED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("this machine", ("127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128")),
    ("a metadata service", METADATA),
    ("link-local", LINK_LOCAL),
    ("multicast or reserved", ("224.0.0.0/4", "240.0.0.0/4", "ff00::/8")),
)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses are never connected to.

    Args:
        allowed: networks that are connected to in spite of the rules below.
        refused: networks that are refused beside loopback, link-local, metadata services and multicast.
        services: returns the networks of the cluster's Services and the API server's address, as known now.
    """

    allowed: tuple[Network, ...] = ()
    refused: tuple[Network, ...] = ()
    services: Callable[[], tuple[Network, ...]] = tuple

    def objection(self, address: Address) -> str | None:
        """Return what is wrong with an address, in a few words; None where it may be connected to."""
        if is_within(address, self.allowed):
            return None
        for candidate in with_embedded_ipv4(address):
            if is_within(candidate, self.allowed):
                return None
            for kind, networks in _COMPILED:
                if is_within(candidate, networks):
                    return kind
            if is_within(candidate, self.refused):
                return "a network that this installation refuses"
            if is_within(candidate, self.services()):
                return "a Service of this cluster"
        return None


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read networks such as ``10.96.0.0/12``, or single addresses.

    Raises:
        ValueError: one is neither; the message names every such text.
    """
    networks, wrong = [], []
    for text in texts:
        try:
            networks.append(ip_network(text.strip(), strict=False))
        except ValueError:
            wrong.append(repr(text))
    if wrong:
        raise ValueError(f"expected networks such as 10.96.0.0/12 or addresses, got {', '.join(wrong)}")
    return tuple(networks)


EVERYTHING = AddressPolicy(allowed=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))
"""For a person's own command: the person's machine reaches what the person may reach."""


def cluster_networks(environment: Mapping[str, str]) -> tuple[Network, ...]:
    """Return the API server's address as a pod's environment names it, to be refused.

    Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
    """
    try:
        return (ip_network(ip_address(environment.get("KUBERNETES_SERVICE_HOST", ""))),)
    except ValueError:
        return ()


_COMPILED = tuple((kind, tuple(map(ip_network, networks))) for kind, networks in _REFUSED)
