"""What makes pods, as far as it tells whether pods are missing, and whether it was we who refused them. Pure.

The fields: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/.
"""

from enum import StrEnum

from webhook.api.objects import API_GROUP, Condition, Metadata, Pod, Struct


class OwnerKind(StrEnum):
    """The kinds whose controllers create pods, and back off when they are refused."""

    REPLICA_SET = "ReplicaSet"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"
    JOB = "Job"

    @property
    def api_version(self) -> str:
        """Group and version."""
        return "batch/v1" if self is OwnerKind.JOB else "apps/v1"

    @property
    def plural(self) -> str:
        """As in a path of the API."""
        return f"{self.value.lower()}s"


class OwnerSpec(Struct, frozen=True):
    """How many pods there should be, and what they look like."""

    replicas: int | None = None
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None
    pod_management_policy: str = ""
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
    conditions: list[Condition] | None = None

    def condition(self, kind: str) -> Condition | None:
        """Return a condition that is true."""
        return next((held for held in self.conditions or () if held.type == kind and held.status == "True"), None)


class Owner(Struct, frozen=True):
    """A ReplicaSet, StatefulSet, DaemonSet or Job."""

    metadata: Metadata = Metadata()
    spec: OwnerSpec = OwnerSpec()
    status: OwnerStatus = OwnerStatus()


def short(kind: OwnerKind, owner: Owner) -> bool:
    """Tell whether pods are missing that its controller should have created."""
    if owner.metadata.deletion_timestamp is not None:
        return False
    spec, status = owner.spec, owner.status
    match kind:
        case OwnerKind.DAEMON_SET:
            return status.current_number_scheduled < status.desired_number_scheduled
        case OwnerKind.JOB:
            if spec.suspend or status.condition("Complete") or status.condition("Failed"):
                return False
            wanted = 1 if spec.parallelism is None else spec.parallelism
            if spec.completions is not None:
                wanted = min(wanted, spec.completions - status.succeeded)
            return status.active < wanted
        case _:
            return status.replicas < (1 if spec.replicas is None else spec.replicas)


def blames_us(owner: Owner) -> bool:
    """Tell whether a ReplicaSet says that a webhook of ours refused its pods, by a verdict or by being away."""
    failure = owner.status.condition("ReplicaFailure")
    return failure is not None and API_GROUP in failure.message


def stuck(kind: OwnerKind, owner: Owner) -> bool:
    """Tell whether pods are missing for no other reason that can be seen: the owner waits for its next try."""
    if not short(kind, owner):
        return False
    spec, status = owner.spec, owner.status
    match kind:
        case OwnerKind.REPLICA_SET:
            return blames_us(owner)
        case OwnerKind.STATEFUL_SET:
            # In order, the next pod is created when all before it are ready: then it is they that are waited for.
            return spec.pod_management_policy == "Parallel" or status.ready_replicas >= status.replicas
        case OwnerKind.JOB:
            return status.failed == 0  # else the Job itself waits before it tries again
        case _:
            return True
