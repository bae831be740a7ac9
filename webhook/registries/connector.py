"""Connections to registries: names are resolved once, and only addresses that were checked are connected to."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from webhook.registries.addresses import AddressPolicy

_RESOLVERS = 4
"""Threads for names. A name of a tenant may take as long as its server likes; it delays other registries' names, and
nothing else of this process."""


class AddressRefused(OSError):  # noqa: N818 - named after what happened
    """The address of a host is never connected to; the message is its kind, and never the address."""


class BoundedResolver(AbstractResolver):
    """Resolves names in threads of its own, without the search domains of resolv.conf.

    Args:
        search_domains: whether a name may be completed by the search domains.
    """

    def __init__(self, *, search_domains: bool) -> None:
        self._search_domains = search_domains
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="registry-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            OSError: it has none.
        """
        # A name with a dot at its end is complete. `localhost` is in /etc/hosts without one.
        name = host if self._search_domains or host == "localhost" or host.endswith(".") else f"{host}."
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(name, port, family=family, type=socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Let the threads end, without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _BorrowedResolver(AbstractResolver):
    """A resolver that outlives the connector: aiohttp closes the one that it is given."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host."""
        return await self._resolver.resolve(host, port, family)

    async def close(self) -> None:
        """Leave the resolver open."""


def open_connector(
    resolver: AbstractResolver, trust: ssl.SSLContext, policy: AddressPolicy | None
) -> aiohttp.TCPConnector:
    """Return a connector that refuses addresses at the moment of connecting, whatever led to them.

    Args:
        resolver: resolves names; it stays open.
        trust: whom TLS trusts.
        policy: which addresses are refused; None where a proxy is connected to, which the operator named.
    """
    return aiohttp.TCPConnector(
        resolver=_BorrowedResolver(resolver),
        ssl=trust,
        use_dns_cache=False,
        limit=8,
        socket_factory=None if policy is None else _checked_sockets(policy),
    )


def _checked_sockets(policy: AddressPolicy) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        # The very address that the socket connects to: a second resolution could have another result.
        if objection := policy.objection(ip_address(str(address[0]).partition("%")[0])):
            raise AddressRefused(objection)
        return socket.socket(family=family, type=kind, proto=protocol)

    return make


def trust_roots(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those of a file.

    Raises:
        OSError: the file cannot be read, or has no certificate (``ssl.SSLError``).
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context
