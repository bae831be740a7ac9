"""The networks of the cluster's Services, as the API server lists them, are refused to registries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from tests.object_feeds import Collection
from webhook.api.objects import Metadata
from webhook.api.service_cidr import ServiceCIDR, ServiceCIDRSpec
from webhook.cache.service_networks import ServiceNetworks
from webhook.kube.errors import Forbidden, NotFound, Unavailable
from webhook.kube.reflector import Feed
from webhook.registries.addresses import AddressPolicy, parse_networks


def cidr(name: str, *networks: str) -> ServiceCIDR:
    return ServiceCIDR(metadata=Metadata(name=name), spec=ServiceCIDRSpec(cidrs=networks))


class Cluster:
    """An API server at an address."""

    server_host = "198.51.100.7"

    def __init__(self, *networks: ServiceCIDR) -> None:
        self.networks = Collection(*networks)
        self.advertised: list[tuple[str, ...] | Exception] = [("203.0.113.9",)]

    async def advertised_hosts(self) -> tuple[str, ...]:
        """Return or raise the next answer; the last one stays."""
        answer = self.advertised.pop(0) if len(self.advertised) > 1 else self.advertised[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def service_cidrs(self) -> Feed[ServiceCIDR]:
        """Return the feed."""
        return self.networks


@asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[ServiceNetworks]:
    services = ServiceNetworks(cluster)
    task = asyncio.create_task(services.run())
    try:
        yield services
    finally:
        task.cancel()


async def settled() -> None:
    """Let the watch process its changes: all that it waits for here are turns of the event loop."""
    for _ in range(20):
        await asyncio.sleep(0)


def refused(services: ServiceNetworks, address: str, allowed: tuple[str, ...] = ()) -> bool:
    policy = AddressPolicy(allowed=parse_networks(allowed), services=services.current)
    return policy.objection(ip_address(address)) == "a Service of this cluster"


async def test_services_of_every_network_are_refused_also_of_a_later_one() -> None:
    """Both families, in every notation; a network that is added or removed counts at once; a flag allows one."""
    cluster = Cluster(cidr("kubernetes", "10.96.0.0/12", "fd00:10::/112"))
    async with running(cluster) as services, asyncio.timeout(30):
        await services.wait_known()
        for address in ("10.96.0.10", "::ffff:10.96.0.10", "fd00:10::5"):
            assert refused(services, address)
        assert not refused(services, "10.77.0.5")
        assert not refused(services, "10.96.0.10", allowed=("10.96.0.10/32",))
        cluster.networks.put(cidr("more", "10.77.0.0/24", "no network"))
        await settled()
        assert refused(services, "10.77.0.5")
        cluster.networks.remove(("", "more"))
        await settled()
        assert not refused(services, "10.77.0.5")


@pytest.mark.parametrize("refusal", [NotFound("404: no such resource"), Forbidden("403: servicecidrs is forbidden")])
async def test_without_them_the_api_server_is_refused(refusal: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """An older API server, or a missing right: its own address is refused, and the log says so."""
    cluster = Cluster()
    cluster.networks.refusal = refusal
    async with running(cluster) as services, asyncio.timeout(30):
        await services.wait_known()
        assert refused(services, cluster.server_host)
        assert not refused(services, "10.96.0.10")
    assert "service_networks.unknown" in caplog.text


async def test_an_api_server_that_does_not_answer_is_waited_for() -> None:
    """No registry is asked before the networks are known: one could be a Service."""
    cluster = Cluster(cidr("kubernetes", "10.96.0.0/12"))
    cluster.networks.refusal = Unavailable("no answer")
    async with running(cluster) as services, asyncio.timeout(30):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(services.wait_known(), 0.05)
        assert services.problem
        cluster.networks.refusal = None
        await services.wait_known()
        assert refused(services, "10.96.0.10")
        assert services.problem == ""


async def test_the_address_that_the_api_server_advertises_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address behind the Service is refused too; when the API server does not answer, it is asked again."""
    monkeypatch.setattr("webhook.cache.service_networks.RETRY_SECONDS", 0.01)
    cluster = Cluster()
    cluster.advertised = [Unavailable("no answer"), ("203.0.113.9", "2001:db8::9", "")]
    async with running(cluster) as services, asyncio.timeout(30):
        await services.wait_known()
        for address in ("203.0.113.9", "2001:db8::9", cluster.server_host):
            assert refused(services, address)
        assert not refused(services, "203.0.113.10")


async def test_an_api_server_that_advertises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A failure to read the advertised address is logged, and the other networks are still refused."""
    cluster = Cluster(cidr("kubernetes", "10.96.0.0/12"))
    cluster.advertised = [Forbidden("403: no")]
    async with running(cluster) as services, asyncio.timeout(30):
        await services.wait_known()
        assert refused(services, "10.96.0.10")
    assert "service_networks.unadvertised" in caplog.text


async def test_the_name_of_the_api_server_is_resolved() -> None:
    """A kubeconfig may have a name; its addresses are refused."""
    cluster = Cluster()
    cluster.server_host = "localhost"
    async with running(cluster) as services, asyncio.timeout(30):
        await services.wait_known()
        assert {str(each.network_address) for each in services.current()} & {"127.0.0.1", "::1"}
