"""Tell on a Deployment, once for each of its rollouts, that its pods are held: that is where people look first."""

import logging
from typing import Protocol

from webhook.api.objects import Metadata
from webhook.api.owners import Owner, OwnerKind
from webhook.controller.events import Event, EventSink, Reference
from webhook.kube.errors import ClusterError
from webhook.telemetry import log_event

REMEMBERED = 10_000
"""ReplicaSets of which it was told. Forgotten ones cost a request each: the Event's name follows from theirs."""


class RolloutApi(Protocol):
    """Where ReplicaSets are found."""

    async def owner(self, kind: OwnerKind, namespace: str, name: str) -> Owner:
        """One owner of pods."""


class RolloutEvents:
    """The rollouts of which it was told."""

    def __init__(self, actions: RolloutApi, tell: EventSink) -> None:
        self._actions = actions
        self._tell = tell
        self._told: set[str] = set()

    async def held(self, pod: Metadata, note: str) -> None:
        """Tell that a pod is held, and so its rollout, unless that was told before.

        Args:
            note: why.
        """
        owner = pod.owner
        if owner is None or owner.kind != OwnerKind.REPLICA_SET or owner.uid in self._told:
            return
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told.add(owner.uid)
        try:
            found = await self._actions.owner(OwnerKind.REPLICA_SET, pod.namespace, owner.name)
        except ClusterError as error:
            log_event("rollout.unreadable", level=logging.WARNING, replicaset=owner.name, error=str(error))
            return
        deployment = found.metadata.owner
        if deployment is None or deployment.kind != "Deployment":
            return
        metadata = Metadata(namespace=pod.namespace, name=deployment.name, uid=deployment.uid)
        self._tell(
            Event(
                Reference("apps/v1", "Deployment", metadata),
                action="Hold",
                reason="PodsHeld",
                note=f"pods of ReplicaSet {owner.name} are held: {note}",
                once=owner.uid,
            )
        )
