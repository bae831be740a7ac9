"""ServiceCIDR of networking.k8s.io/v1: a network from which Services get their addresses."""

from webhook.api.objects import Metadata, Struct


class ServiceCIDRSpec(Struct, frozen=True):
    """Part of ServiceCIDRSpec.

    Args:
        cidrs: one network, or one of IPv4 and one of IPv6.
    """

    cidrs: tuple[str, ...] = ()


class ServiceCIDR(Struct, frozen=True):
    """A network of Services."""

    metadata: Metadata = Metadata()
    spec: ServiceCIDRSpec = ServiceCIDRSpec()
