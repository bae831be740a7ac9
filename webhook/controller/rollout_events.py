"""Events on Deployments whose pods are held, one for each rollout: people look there first."""

import logging
from typing import Protocol

from webhook.api.objects import Metadata
from webhook.api.owners import Owner, OwnerKind
from webhook.controller.events import Event, EventSink, Reference
from webhook.kube.errors import ClusterError
from webhook.telemetry import log_event

MAX_REMEMBERED = 10_000
"""ReplicaSets remembered as reported. Forgetting them costs a request each, and no second Event: the Event's name is
derived from the ReplicaSet's uid."""


class RolloutApi(Protocol):
    """Where ReplicaSets are read."""

    async def owner(self, kind: OwnerKind, namespace: str, name: str) -> Owner:
        """Return one owner of pods."""


class RolloutEvents:
    """Reports held pods on their Deployments, once for each rollout.

    Watches nothing itself: the release reconciler reports each held pod. Writes Events on Deployments.
    """

    def __init__(self, api: RolloutApi, emit: EventSink) -> None:
        self._api = api
        self._emit = emit
        self._reported: set[str] = set()

    async def report(self, pod: Metadata, why: str) -> None:
        """Emit an Event on a held pod's Deployment, unless its ReplicaSet was reported before."""
        owner = pod.owner
        if owner is None or owner.kind != OwnerKind.REPLICA_SET or owner.uid in self._reported:
            return
        if len(self._reported) >= MAX_REMEMBERED:
            self._reported.clear()
        self._reported.add(owner.uid)  # before the request, or each pod of a large rollout would make one
        try:
            found = await self._api.owner(OwnerKind.REPLICA_SET, pod.namespace, owner.name)
        except ClusterError as error:
            log_event("rollout.unreadable", level=logging.WARNING, replicaset=owner.name, error=str(error))
            return
        deployment = found.metadata.owner
        if deployment is None or deployment.kind != "Deployment":
            return
        metadata = Metadata(namespace=pod.namespace, name=deployment.name, uid=deployment.uid)
        self._emit(
            Event(
                Reference("apps/v1", "Deployment", metadata),
                action="Hold",
                reason="PodsHeld",
                note=f"pods of ReplicaSet {owner.name} are held: {why}",
                dedup_key=owner.uid,
            )
        )
