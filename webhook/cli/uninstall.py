"""Take ledgergate out of service, and its scheduling gate off every pod, whichever parts of it still run."""

import asyncio
from collections.abc import AsyncIterator, Callable
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
"""Requests in flight at a time."""

PAUSE = 0.5
"""Seconds between two rounds."""

EMPTY_ROUNDS = 3
"""Rounds in a row that must find nothing to do after the guards were deleted. API servers learn of the deletion by a
watch, so for some tenths of a second they may still create pods with the gate."""

MAX_ROUNDS = 60
"""Rounds until it gives up: half a minute of pauses for pods that cannot be released, or made ready."""

_READY_MESSAGE = "ledgergate was taken out of service: it asks nothing of the pod's readiness"
_UNREADY_AGAIN = (
    "a readiness condition of ledgergate is set to False again and again: its controller still runs, so delete its "
    "Deployment and repeat this"
)

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
GUARDS = (
    # Inside the API server, this puts the gate on every new pod of an opted-in namespace.
    f"mutatingadmissionpolicybindings/hold.{API_GROUP}",
    f"mutatingadmissionpolicies/hold.{API_GROUP}",
    # This puts it on before Kubernetes 1.36, and takes it off a pod that need not wait.
    f"mutatingwebhookconfigurations/{CONFIGURATION}",
    # This freezes what a held pod declares.
    f"validatingadmissionpolicybindings/freeze.{API_GROUP}",
    f"validatingadmissionpolicies/freeze.{API_GROUP}",
    # This refuses to release a pod whose ledger is not where it needs it.
    f"validatingwebhookconfigurations/{CONFIGURATION}",
)
"""What holds pods and what guards their release, in the order of deletion. What holds goes first: were the
validating webhook gone before it, a pod could still be created with a gate that nothing judges."""


@dataclass(slots=True)
class ReleaseResult:
    """The outcome of a release so far.

    Args:
        released: pods without the gate.
        refused: pods that keep the gate, and why.
        complete: whether no pod is left that could be released.
    """

    released: set[Key] = field(default_factory=set)
    refused: dict[Key, ClusterError] = field(default_factory=dict)
    complete: bool = False

    @property
    def forbidden(self) -> bool:
        """Whether the webhook, or a missing right, forbids the release of a pod."""
        return any(isinstance(error, Forbidden) for error in self.refused.values())

    @property
    def webhook_failed(self) -> bool:
        """Whether a release failed because the API server could not call a webhook."""
        return any("failed calling webhook" in str(error) for error in self.refused.values())


async def remove_guards(cluster: KubeClient) -> AsyncIterator[str]:
    """Delete everything that holds pods or guards a gate's removal; yield the name of each object that existed.

    Raises:
        ClusterError: an object cannot be deleted.
    """
    for name in GUARDS:
        try:
            await cluster.request("DELETE", f"{_ADMISSION}/{name}")
        except NotFound:
            continue  # before Kubernetes 1.36 there is no policy, and an earlier run may have deleted the others
        yield name


async def release_all(
    cluster: KubeClient, namespace: str | None, *, unguarded: bool, on_progress: Callable[[int, int], None]
) -> ReleaseResult:
    """Release every held pod.

    Args:
        namespace: the namespace to release; None for all.
        unguarded: whether the guards were deleted. Then a refusal comes from an API server that has not heard of it
            and is worth another try, and pods may still be created with the gate.
        on_progress: called with the number of pods released so far, and of all that were found.

    Raises:
        ClusterError: the pods cannot be listed.
    """
    result, empty = ReleaseResult(), 0
    for _ in range(MAX_ROUNDS):
        held = [pod for pod in await _unscheduled(cluster, namespace) if pod.held]
        final = set() if unguarded else {key for key, error in result.refused.items() if isinstance(error, Forbidden)}
        due = [pod for pod in held if pod.metadata.key not in final]
        empty = 0 if due else empty + 1
        result.refused = {key: error for key, error in result.refused.items() if key in final}
        result.complete = empty >= (EMPTY_ROUNDS if unguarded else 1)
        if result.complete:
            break
        await _release_pods(cluster, due, result, on_progress)
        await asyncio.sleep(PAUSE)
    return result


async def make_ready(cluster: KubeClient, now: datetime) -> dict[Key, ClusterError]:
    """Set the condition of every readiness gate of ledgergate to True; return the pods for which that failed.

    A pod with a readiness gate (KEP-580) is not ready while the condition is missing or False. Without ledgergate it
    would never become ready. A controller that still runs may write what it decided a moment before: False, over True.
    So the pods are listed again until no condition is missing; one that still is in the last round has failed.

    Args:
        now: aware; when the conditions changed.

    Raises:
        ClusterError: the pods cannot be listed.
    """
    failed, due, empty = dict[Key, ClusterError](), list[Pod](), 0
    for _ in range(MAX_ROUNDS):
        forbidden = {key: error for key, error in failed.items() if isinstance(error, Forbidden)}
        pods, _version = await cluster.gated_pods().list_objects()
        due = [pod for pod in pods if isinstance(pod, Pod) and _unready(pod) and pod.metadata.key not in forbidden]
        empty = 0 if due else empty + 1
        failed = forbidden | await _set_ready(cluster, due, now)
        if empty == EMPTY_ROUNDS:
            return failed
        await asyncio.sleep(PAUSE)
    return {pod.metadata.key: ClusterError(_UNREADY_AGAIN) for pod in due} | failed


async def _set_ready(cluster: KubeClient, pods: list[Pod], now: datetime) -> dict[Key, ClusterError]:
    limit, failed = asyncio.Semaphore(PARALLEL), dict[Key, ClusterError]()
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"status": "True", "reason": "Uninstalled", "message": _READY_MESSAGE, "lastTransitionTime": stamp}

    async def set_conditions(pod: Pod) -> None:
        conditions = [{"type": kind, **condition} for kind in _unready(pod)]
        try:
            async with limit:
                await cluster.patch_pod_conditions(pod.metadata, conditions)
        except (NotFound, Conflict):
            return  # the pod is gone, or another one has its name, created without the readiness gate
        except ClusterError as error:
            failed[pod.metadata.key] = error

    async with asyncio.TaskGroup() as group:
        for pod in pods:
            group.create_task(set_conditions(pod))
    return failed


def _unready(pod: Pod) -> list[str]:
    """Return the conditions of ledgergate that a pod waits for."""
    true = {each.type for each in pod.status.conditions or () if each.status == "True"}
    return [kind for kind in map(condition_type, requested_gates(pod)) if kind not in true]


async def _release_pods(
    cluster: KubeClient, pods: list[Pod], result: ReleaseResult, on_progress: Callable[[int, int], None]
) -> None:
    limit = asyncio.Semaphore(PARALLEL)
    seen = len(result.released) + len(pods)

    async def release(pod: Pod) -> None:
        key = pod.metadata.key
        try:
            async with limit:
                await cluster.patch_pod(pod.metadata, release_patch(pod))
        except NotFound:
            return
        except ClusterError as error:
            result.refused[key] = error
            return
        result.released.add(key)
        on_progress(len(result.released), seen)

    async with asyncio.TaskGroup() as group:
        for pod in pods:
            group.create_task(release(pod))


async def _unscheduled(cluster: KubeClient, namespace: str | None) -> list[Pod]:
    path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
    pods, _ = await Collection(cluster, path, Pod, (("fieldSelector", "spec.nodeName="),)).list_objects()
    return [pod for pod in pods if isinstance(pod, Pod)]
