"""Held pods of a StatefulSet that a newer revision has superseded: Kubernetes replaces none of them by itself."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

from webhook.api.objects import Metadata, Pod
from webhook.api.owners import Owner, OwnerKind, is_superseded
from webhook.cache.gates import GateCache
from webhook.controller.events import Event, EventSink, Reference
from webhook.core.gate import Mode, SupersededPods
from webhook.kube.errors import ClusterError
from webhook.telemetry import isolated, log_event

CHECK_SECONDS = 5.0
"""Between two looks at the StatefulSets that have held pods; each costs one request."""

MAX_DELETIONS = 3
"""Deletions of pods of one name, for one generation of a StatefulSet. A pod that the rolling update has not reached yet
is created again from the current revision, not from the newest: without a limit it would be deleted again and again."""

MAX_REMEMBERED = 10_000
"""Names of pods whose deletions are counted; beyond, all are forgotten."""


class DeletionLimit:
    """How often pods of one name were deleted for one generation of their StatefulSet."""

    def __init__(self) -> None:
        self._deletions: Counter[tuple[str, int, str]] = Counter()

    def allows(self, owner: Owner, pod: Pod) -> bool:
        """Return whether a pod may be deleted once more."""
        return self._deletions[_attempt(owner, pod)] < MAX_DELETIONS

    def count(self, owner: Owner, pod: Pod) -> None:
        """Note that a pod was deleted."""
        if len(self._deletions) >= MAX_REMEMBERED:
            self._deletions.clear()
        self._deletions[_attempt(owner, pod)] += 1


def _attempt(owner: Owner, pod: Pod) -> tuple[str, int, str]:
    return owner.metadata.uid, owner.metadata.generation, pod.metadata.name


class SupersededApi(Protocol):
    """Where StatefulSets are read, and their pods deleted."""

    async def stateful_set(self, namespace: str, name: str) -> Owner | None:
        """Return a StatefulSet; None where there is none of that name."""

    async def delete_pod(self, pod: Metadata) -> None:
        """Delete a pod, unless it has changed since it was read."""


class SupersededReconciler:
    """Reports superseded held pods, and deletes them where every gate that selects them allows it.

    Writes Events on the pods and their StatefulSets.

    Args:
        held: the held pods of the cluster.
    """

    def __init__(
        self, api: SupersededApi, gates: GateCache, emit: EventSink, *, held: Callable[[], Iterable[Pod]]
    ) -> None:
        self._api = api
        self._gates = gates
        self._emit = emit
        self._held = held
        self._limit = DeletionLimit()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await self._gates.wait_synced()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            by_owner: defaultdict[tuple[str, str], list[Pod]] = defaultdict(list)
            for pod in self._held():
                owner = pod.metadata.owner
                if owner is not None and owner.kind == OwnerKind.STATEFUL_SET:
                    by_owner[pod.metadata.namespace, owner.name].append(pod)
            for (namespace, name), pods in by_owner.items():
                with isolated("superseded.failed", statefulset=f"{namespace}/{name}"):
                    await self._check(namespace, name, pods)

    async def _check(self, namespace: str, name: str, pods: Iterable[Pod]) -> None:
        try:
            owner = await self._api.stateful_set(namespace, name)
        except ClusterError as error:
            log_event("superseded.unreadable", level=logging.WARNING, statefulset=name, error=str(error))
            return
        if owner is None:
            return
        for pod in pods:
            if pod.metadata.deletion_timestamp is None and is_superseded(owner, pod):
                deleted = self._allows(pod) and self._limit.allows(owner, pod) and await self._delete(pod)
                if deleted:
                    self._limit.count(owner, pod)
                self._report(pod, owner, deleted=deleted)

    def _allows(self, pod: Pod) -> bool:
        policies = [gate.policy for gate in self._gates.selecting(pod.metadata.namespace, pod.labels)]
        return bool(policies) and all(
            policy.superseded_pods is SupersededPods.DELETE and policy.mode is Mode.ENFORCE for policy in policies
        )

    async def _delete(self, pod: Pod) -> bool:
        try:
            await self._api.delete_pod(pod.metadata)
        except ClusterError as error:
            # A right that is missing (controller.deleteSupersededPods of the chart), or a pod that has changed.
            log_event("superseded.undeleted", level=logging.WARNING, pod=pod.metadata.name, error=str(error))
            return False
        log_event("superseded.deleted", namespace=pod.metadata.namespace, pod=pod.metadata.name)
        return True

    def _report(self, pod: Pod, owner: Owner, *, deleted: bool) -> None:
        namespace, name = pod.metadata.key
        newest = owner.status.update_revision
        end = "it was deleted" if deleted else f"delete it: kubectl delete pod {name} -n {namespace}"
        note = (
            f"held pod {name} is superseded by revision {newest} of statefulset/{owner.metadata.name}, which replaces "
            f"no pod before it is ready: {end}"
        )
        statefulset = Metadata(namespace=namespace, name=owner.metadata.name, uid=owner.metadata.uid)
        for regarding in (Reference.pod(pod.metadata), Reference("apps/v1", "StatefulSet", statefulset)):
            key = f"{pod.metadata.uid} {newest} {deleted}"
            self._emit(Event(regarding, "Hold", "Superseded", note, warning=not deleted, dedup_key=key))
