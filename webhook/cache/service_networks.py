"""The networks of the cluster's Services, and the API server's own addresses: no registry is in either."""

import asyncio
import logging
import socket
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Protocol

from migrations.core.networks import Network
from webhook.api.service_cidr import ServiceCIDR
from webhook.kube.errors import ClusterError, Unavailable
from webhook.kube.reflector import Feed, Reflector
from webhook.telemetry import log_event

RETRY_SECONDS = 1.0
"""Until an API server that has not answered is asked again for the addresses that it advertises."""

RESOLVE_SECONDS = 5.0
"""For resolving the name of the API server. There is a connection to it by then, so the name can be resolved."""


class ServiceNetworkApi(Protocol):
    """Where the networks are watched."""

    @property
    def server_host(self) -> str:
        """The API server's host name or address."""

    async def advertised_hosts(self) -> tuple[str, ...]:
        """Return the hosts that the API server which answers advertises as its addresses."""

    def service_cidrs(self) -> Feed[ServiceCIDR]:
        """Return the feed of the ServiceCIDRs."""


class ServiceNetworks:
    """The cluster's networks of Services, followed.

    The API has ServiceCIDRs from Kubernetes 1.33 on. Where they cannot be had (an older server, or a right is missing),
    the API server's addresses alone are known; a flag names the rest. Of several API servers only the addresses of the
    one that answers are known: the others' are in an EndpointSlice, and to read it another right would be needed.
    https://kubernetes.io/docs/reference/kubernetes-api/networking/service-cidr-v1/
    """

    def __init__(self, api: ServiceNetworkApi) -> None:
        self._api = api
        self._networks: tuple[Network, ...] = ()
        self._server: tuple[Network, ...] = ()
        self._known = asyncio.Event()
        self._lacking = ""
        self._reflector = Reflector(
            api.service_cidrs(),
            self._changed,
            on_failure=self._listed,
            retry=(0.05, 5.0),  # a server without ServiceCIDRs is asked for them again and again
        )

    async def run(self) -> None:
        """Follow the networks until cancelled."""
        self._server = (*await _addresses(self._api.server_host), *await self._advertised())
        await self._reflector.run()

    def current(self) -> tuple[Network, ...]:
        """Return the networks as they are now known."""
        return (*self._server, *self._networks)

    async def _advertised(self) -> tuple[Network, ...]:
        while True:
            try:
                hosts = await self._api.advertised_hosts()
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)  # it would not list the networks of Services either
                continue
            except ClusterError as error:
                log_event("service_networks.unadvertised", level=logging.WARNING, error=str(error))
                return ()
            return tuple([network for host in hosts if host for network in await _addresses(host)])

    @property
    def problem(self) -> str:
        """Why no registry is asked yet; empty once the networks are known."""
        return "" if self._known.is_set() else f"networks of Services: {self._reflector.problem or 'not listed yet'}"

    async def wait_known(self) -> None:
        """Wait until the networks have been listed, or the API server has said that it will not list them."""
        await self._known.wait()

    def _changed(self, _old: ServiceCIDR | None, _new: ServiceCIDR | None) -> None:
        self._networks = tuple(_readable(text for each in self._reflector.objects.values() for text in each.spec.cidrs))

    def _listed(self, failure: ClusterError | None) -> None:
        if failure is None:
            self._lacking = ""
        elif not isinstance(failure, Unavailable):
            if self._lacking != str(failure):
                self._lacking = str(failure)
                log_event(
                    "service_networks.unknown",
                    level=logging.WARNING,
                    error=self._lacking,
                    fix="name the cluster's Service networks with --registry-refuse-network",
                )
        else:
            return  # no answer yet: a list may still come
        self._known.set()


def _readable(texts: Iterable[str]) -> Iterable[Network]:
    for text in texts:
        try:
            yield ip_network(text, strict=False)
        except ValueError:
            log_event("service_networks.unreadable", level=logging.WARNING, network=text[:100])


async def _addresses(host: str) -> tuple[Network, ...]:
    """Return the addresses of a host, each as a network; none where it cannot be resolved now."""
    try:
        return (ip_network(ip_address(host)),)
    except ValueError:
        pass
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        log_event("service_networks.unresolved", level=logging.WARNING, error=str(error))
        return ()
    return tuple({ip_network(str(address[0]).partition("%")[0]) for *_, address in found})
