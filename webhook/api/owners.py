"""Objects whose controllers create pods: whether pods are missing, and whether ledgergate refused them. Pure.

Meaning of the fields: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/.
"""

from enum import StrEnum

from webhook.api.objects import API_GROUP, Condition, Metadata, Pod, Struct

REVISION_HASH = "controller-revision-hash"
"""Label of a StatefulSet's pods: the revision of the template that they were made from."""


class OwnerKind(StrEnum):
    """The kinds whose controllers create pods, and back off when a pod is refused."""

    REPLICA_SET = "ReplicaSet"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"
    JOB = "Job"

    @property
    def api_version(self) -> str:
        """API group and version."""
        return "batch/v1" if self is OwnerKind.JOB else "apps/v1"

    @property
    def plural(self) -> str:
        """The kind's name in a path of the API."""
        return f"{self.value.lower()}s"


class RollingUpdate(Struct, frozen=True):
    """``spec.updateStrategy.rollingUpdate`` of a StatefulSet."""

    partition: int = 0


class UpdateStrategy(Struct, frozen=True):
    """``spec.updateStrategy`` of a StatefulSet."""

    rolling_update: RollingUpdate | None = None


class OwnerSpec(Struct, frozen=True):
    """How many pods there should be, and their template."""

    replicas: int | None = None
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None
    pod_management_policy: str = ""
    update_strategy: UpdateStrategy | None = None
    template: Pod = Pod()


class OwnerStatus(Struct, frozen=True):
    """How many pods there are."""

    replicas: int = 0
    ready_replicas: int = 0
    current_number_scheduled: int = 0
    desired_number_scheduled: int = 0
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    update_revision: str = ""
    conditions: list[Condition] | None = None

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of this type if it is True."""
        return next((each for each in self.conditions or () if each.type == kind and each.status == "True"), None)


class Owner(Struct, frozen=True):
    """A ReplicaSet, StatefulSet, DaemonSet or Job."""

    metadata: Metadata = Metadata()
    spec: OwnerSpec = OwnerSpec()
    status: OwnerStatus = OwnerStatus()


def lacks_pods(kind: OwnerKind, owner: Owner) -> bool:
    """Return whether the owner has fewer pods than its controller should have created."""
    if owner.metadata.deletion_timestamp is not None:
        return False
    spec, status = owner.spec, owner.status
    match kind:
        case OwnerKind.DAEMON_SET:
            return status.current_number_scheduled < status.desired_number_scheduled
        case OwnerKind.JOB:
            if spec.suspend or status.condition("Complete") or status.condition("Failed"):
                return False
            expected = 1 if spec.parallelism is None else spec.parallelism
            if spec.completions is not None:
                expected = min(expected, spec.completions - status.succeeded)
            return status.active < expected
        case _:
            return status.replicas < (1 if spec.replicas is None else spec.replicas)


def was_refused_by_ledgergate(owner: Owner) -> bool:
    """Return whether a ReplicaSet's status says that one of our webhooks refused its pods or did not answer."""
    failure = owner.status.condition("ReplicaFailure")
    return failure is not None and API_GROUP in failure.message


def waits_for_retry(kind: OwnerKind, owner: Owner) -> bool:
    """Return whether pods are missing only because, as far as is visible, the owner's controller waits to retry."""
    if not lacks_pods(kind, owner):
        return False
    spec, status = owner.spec, owner.status
    match kind:
        case OwnerKind.REPLICA_SET:
            return was_refused_by_ledgergate(owner)
        case OwnerKind.STATEFUL_SET:
            # Under OrderedReady the next pod is created when all before it are ready: the owner waits for those.
            return spec.pod_management_policy == "Parallel" or status.ready_replicas >= status.replicas
        case OwnerKind.JOB:
            return status.failed == 0  # otherwise the Job waits by its own back-off limit
        case _:
            return True


def is_superseded(owner: Owner, pod: Pod) -> bool:
    """Return whether a pod that never becomes ready is in the way of its StatefulSet's newer revision.

    Under OrderedReady the StatefulSet's controller waits for each pod to be ready before it replaces any, even for
    the pod that it is to replace:
    https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback. Pods below the partition
    keep their revision.
    """
    reference, newest = pod.metadata.owner, owner.status.update_revision
    if reference is None or reference.uid != owner.metadata.uid or owner.metadata.deletion_timestamp is not None:
        return False
    if not newest or owner.spec.pod_management_policy == "Parallel" or pod.labels.get(REVISION_HASH) in {None, newest}:
        return False
    strategy = owner.spec.update_strategy
    partition = strategy.rolling_update.partition if strategy and strategy.rolling_update else 0
    ordinal = pod.metadata.name.rpartition("-")[2]
    return ordinal.isdecimal() and int(ordinal) >= partition
