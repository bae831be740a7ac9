"""Take our scheduling gate off every pod, as an administrator, whatever runs of ours or does not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from webhook.api.objects import API_GROUP, Pod
from webhook.core.patches import condition_type, release_patch
from webhook.core.readiness import requested_gates
from webhook.kube.client import KubeClient
from webhook.kube.collection import Collection
from webhook.kube.errors import ClusterError, Conflict, Forbidden, NotFound
from webhook.kube.reflector import Key
from webhook.settings import CONFIGURATION

PARALLEL = 32
"""Requests at a time."""

PAUSE = 0.5
"""Seconds between two rounds."""

CALM_ROUNDS = 3
"""Rounds in a row that must find no held pod once the guard is gone: an API server learns of that by a watch, so for
some tenths of a second it may still create pods with our gate."""

_GONE = "ledgergate was taken out of service: it asks nothing of the pod's readiness"

ROUNDS = 60
"""After which it is given up: half a minute for a pod that could not be released, however long the others take."""

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
GUARDS: Mapping[str, str] = {
    f"mutatingadmissionpolicybindings/hold.{API_GROUP}": "the hold inside the API server",
    f"mutatingadmissionpolicies/hold.{API_GROUP}": "the hold inside the API server",
    f"mutatingwebhookconfigurations/{CONFIGURATION}": "the webhook that holds",
    f"validatingwebhookconfigurations/{CONFIGURATION}": "the webhook that has the last word",
}
"""What puts our gate on pods and keeps it there, in the order in which it is taken away: nothing holds a new pod any
more before what forbids the release goes."""


@dataclass(slots=True)
class ReleaseResult:
    """How far a release has come.

    Args:
        released: pods that are free.
        refused: pods that stay held, and why.
        over: no pod was found any more that could be released.
    """

    released: set[Key] = field(default_factory=set)
    refused: dict[Key, ClusterError] = field(default_factory=dict)
    over: bool = False

    @property
    def forbidden(self) -> bool:
        """Whether a pod stays held because somebody forbids its release."""
        return any(isinstance(error, Forbidden) for error in self.refused.values())


async def remove_guards(cluster: KubeClient) -> AsyncIterator[str]:
    """Delete everything that holds pods or guards a gate's removal; yields the name of each that was there.

    Raises:
        ClusterError: one cannot be deleted.
    """
    for name in GUARDS:
        try:
            await cluster.request("DELETE", f"{_ADMISSION}/{name}")
        except NotFound:
            continue  # of the policy before Kubernetes 1.36, or of all that an earlier run has taken away
        yield name


async def release_all(
    cluster: KubeClient, namespace: str | None, *, unguarded: bool, on_progress: Callable[[int, int], None]
) -> ReleaseResult:
    """Release every held pod.

    Args:
        namespace: None for all.
        unguarded: nothing of ours refuses it any more; so a refusal is old, and a pod may still come with our gate.
        on_progress: called with the number of pods released, and of those seen.

    Raises:
        ClusterError: the pods cannot be listed.
    """
    done, calm = ReleaseResult(), 0
    for _ in range(ROUNDS):
        held = [pod for pod in await _unbound(cluster, namespace) if pod.held]
        final = set() if unguarded else {key for key, error in done.refused.items() if isinstance(error, Forbidden)}
        due = [pod for pod in held if pod.metadata.key not in final]
        calm = 0 if due else calm + 1
        done.refused = {key: error for key, error in done.refused.items() if key in final}
        done.over = calm >= (CALM_ROUNDS if unguarded else 1)
        if done.over:
            break
        await _release_all(cluster, due, done, on_progress)
        await asyncio.sleep(PAUSE)
    return done


async def make_ready(cluster: KubeClient, now: datetime) -> dict[Key, ClusterError]:
    """Set every pod's condition that nobody will ever set any more; gives those for which that failed.

    A pod with a readiness gate of ours (KEP-580) is not ready while the condition is missing or False. That is for good
    where ledgergate is gone.

    Args:
        now: aware.

    Raises:
        ClusterError: the pods cannot be listed.
    """
    slots, failed = asyncio.Semaphore(PARALLEL), dict[Key, ClusterError]()
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def settle(pod: Pod, kinds: list[str]) -> None:
        said = {"status": "True", "reason": "Uninstalled", "message": _GONE, "lastTransitionTime": stamp}
        try:
            async with slots:
                await cluster.patch_pod_conditions(pod.metadata, [{"type": kind, **said} for kind in kinds])
        except (NotFound, Conflict):
            return  # it is gone, or another pod has its name by now, which came without the gate
        except ClusterError as error:
            failed[pod.metadata.key] = error

    pods, _ = await cluster.gated_pods().list_objects()
    async with asyncio.TaskGroup() as group:
        for pod in pods:
            if isinstance(pod, Pod) and (kinds := _unready(pod)):
                group.create_task(settle(pod, kinds))
    return failed


def _unready(pod: Pod) -> list[str]:
    """Name the conditions of ours that a pod waits for."""
    true = {one.type for one in pod.status.conditions or () if one.status == "True"}
    return [kind for kind in map(condition_type, requested_gates(pod)) if kind not in true]


async def _release_all(
    cluster: KubeClient, pods: list[Pod], done: ReleaseResult, on_progress: Callable[[int, int], None]
) -> None:
    slots = asyncio.Semaphore(PARALLEL)
    seen = len(done.released) + len(pods)

    async def release(pod: Pod) -> None:
        key = pod.metadata.key
        try:
            async with slots:
                await cluster.patch_pod(pod.metadata, release_patch(pod))
        except NotFound:
            return
        except ClusterError as error:
            done.refused[key] = error
            return
        done.released.add(key)
        on_progress(len(done.released), seen)

    async with asyncio.TaskGroup() as group:
        for pod in pods:
            group.create_task(release(pod))


async def _unbound(cluster: KubeClient, namespace: str | None) -> list[Pod]:
    path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
    pods, _ = await Collection(cluster, path, Pod, (("fieldSelector", "spec.nodeName="),)).list_objects()
    return [pod for pod in pods if isinstance(pod, Pod)]
