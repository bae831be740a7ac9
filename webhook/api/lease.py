"""The Lease by which the controllers elect their leader (https://kubernetes.io/docs/concepts/architecture/leases/)."""

from webhook.api.objects import Metadata, Struct


class LeaseSpec(Struct, frozen=True):
    """Who leads, since when, and when that was last renewed, by the leader's clock."""

    holder_identity: str | None = None
    acquire_time: str | None = None
    renew_time: str | None = None


class Lease(Struct, frozen=True):
    """A Lease."""

    metadata: Metadata = Metadata()
    spec: LeaseSpec = LeaseSpec()
