"""Addresses that ledgergate never connects to for a tenant, and the servers that an installation allows. Pure.

A tenant's text (a Secret, an image reference) must not make ledgergate connect to a server that the tenant cannot
reach, above all the node's metadata service.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

IpAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

METADATA = (
    "169.254.169.254/32",  # AWS and most others
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::254/128",  # AWS
    "fd20:ce::254/128",  # Google
)
LINK_LOCAL = ("169.254.0.0/16", "fe80::/10")
_NEVER = (
    ("a metadata service", tuple(map(ip_network, METADATA))),
    ("a link-local address", tuple(map(ip_network, LINK_LOCAL))),
)
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_NAME = re.compile(r"(\*?\.)?[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?\Z")


def with_embedded_ipv4(address: IpAddress) -> Iterable[IpAddress]:
    """Return an address and the IPv4 addresses embedded in it, so that no notation evades a check."""
    found: list[IpAddress] = [address]
    if isinstance(address, IPv6Address):
        found += [inner for inner in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if inner]
        if address in _NAT64 or address in _COMPATIBLE:
            found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def is_within(address: IpAddress, networks: Iterable[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)


class HostPolicy(NamedTuple):
    """Which database servers may be connected to.

    Attributes:
        names: Host names, in lower case.
        suffixes: Ends of host names, each with its leading dot.
        networks: Networks of addresses.
    """

    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> HostPolicy:
        """Parse `db.example.com`, `.example.com` or `*.example.com`, `10.0.0.0/8`, `10.0.0.1`.

        An empty list allows every server, except the addresses that `objection` always refuses.

        Raises:
            ValueError: A text is none of these; the message names every such text.
        """
        names, suffixes, networks, wrong = set(), [], [], []
        for text in texts:
            word = text.strip().lower()
            try:
                networks.append(ip_network(word, strict=False))
                continue
            except ValueError:
                word = word.rstrip(".")
            if not _NAME.match(word) or "/" in word or word.replace(".", "").isdigit():
                wrong.append(repr(text))
            elif word.startswith(("*.", ".")):
                suffixes.append(word.lstrip("*"))
            else:
                names.add(word)
        if wrong:
            raise ValueError(f"expected host names, suffixes such as .example.com, or networks, got {', '.join(wrong)}")
        return cls(frozenset(names), tuple(suffixes), tuple(networks))

    def allows_name(self, host: str) -> bool:
        """Return whether a host name is allowed, whatever its addresses are."""
        name = host.lower().rstrip(".")
        return name in self.names or name.endswith(self.suffixes)

    def objection(self, address: str, *, named: bool) -> str:
        """Return what is wrong with an address that is about to be connected to; empty where nothing is.

        Args:
            address: The IP address.
            named: Whether an allowed host name was resolved to it.
        """
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return "not an IP address"
        for candidate in with_embedded_ipv4(found):
            for kind, networks in _NEVER:
                if is_within(candidate, networks):
                    return kind
        if named or not (self.names or self.suffixes or self.networks):
            return ""
        if any(is_within(candidate, self.networks) for candidate in with_embedded_ipv4(found)):
            return ""
        return "not among the database servers that this installation allows (--allowed-database-hosts)"
