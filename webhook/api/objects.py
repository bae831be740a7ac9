"""Kubernetes objects, with the fields that ledgergate reads.

msgspec skips all other fields without building them, which is what makes a pod of 200 KB cheap to decode. Meaning of
the fields: https://kubernetes.io/docs/reference/kubernetes-api/.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

# Names that are part of ledgergate's public interface and that several modules use.
SCHEDULING_GATE = "ledgergate.dev/ledger"
GATED_LABEL = "ledgergate.dev/gated"
API_GROUP = "ledgergate.dev"
API_VERSION = "v1alpha1"


class Struct(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """An object as it is on the wire: names in camelCase, unknown fields ignored, defaults left out.

    The garbage collector does not look at it (``gc=False``): what is decoded from JSON has no cycles.
    """


class OwnerReference(Struct, frozen=True):
    """An owner of an object; of several owners the one that manages it is the ``controller``."""

    kind: str
    name: str
    api_version: str = ""
    uid: str = ""
    controller: bool = False


class Metadata(Struct, frozen=True):
    """Part of ObjectMeta."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: list[OwnerReference] | None = None

    @property
    def owner(self) -> OwnerReference | None:
        """The owner that manages the object; None where it has none."""
        return next((owner for owner in self.owner_references or () if owner.controller), None)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


class SchedulingGate(Struct, frozen=True):
    """An entry of ``spec.schedulingGates`` of a pod (KEP-3521)."""

    name: str


class ReadinessGate(Struct, frozen=True):
    """An entry of ``spec.readinessGates`` of a pod (KEP-580)."""

    condition_type: str


class EnvVar(Struct, frozen=True):
    """An environment variable of a container; ``value`` is None where it comes from a reference."""

    name: str
    value: str | None = None


_NO_ENVIRONMENT = msgspec.Raw(b"null")


class Container(Struct, frozen=True):
    """A container's name, image and declared environment.

    Most of a large pod is its environment, which few gates ask for: it is decoded where it is asked for.
    """

    name: str = ""
    image: str = ""
    environment: msgspec.Raw = msgspec.field(default=_NO_ENVIRONMENT, name="env")

    @property
    def env(self) -> Sequence[EnvVar]:
        """The variables; none where the field is not a list of them."""
        try:
            return msgspec.json.decode(self.environment, type=list[EnvVar] | None) or ()
        except msgspec.DecodeError:
            return ()


class PullSecret(Struct, frozen=True):
    """A Secret of the pod's namespace with a registry's login, an entry of ``spec.imagePullSecrets``."""

    name: str = ""


class PodSpec(Struct, frozen=True):
    """Part of a pod's spec."""

    node_name: str = ""
    image_pull_secrets: list[PullSecret] | None = None
    scheduling_gates: list[SchedulingGate] | None = None
    readiness_gates: list[ReadinessGate] | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None


class Condition(Struct, frozen=True):
    """An entry of ``status.conditions``."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class ContainerStatus(Struct, frozen=True):
    """An entry of ``status.containerStatuses``; ``image_id`` names what the kubelet pulled, with its digest."""

    name: str = ""
    image_id: str = msgspec.field(default="", name="imageID")


class PodStatus(Struct, frozen=True):
    """Part of a pod's status."""

    phase: str = ""
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None


class Pod(Struct, frozen=True):
    """A pod, or the template of one."""

    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels; empty where there are none."""
        return self.metadata.labels or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations; empty where there are none."""
        return self.metadata.annotations or {}

    @property
    def gate_index(self) -> int | None:
        """Index of our scheduling gate in ``spec.schedulingGates``; None where the pod does not have it."""
        for index, gate in enumerate(self.spec.scheduling_gates or ()):
            if gate.name == SCHEDULING_GATE:
                return index
        return None

    @property
    def held(self) -> bool:
        """Whether the pod has our scheduling gate and is not being deleted."""
        return self.gate_index is not None and self.metadata.deletion_timestamp is None


class KeptPod(Pod, frozen=True):
    """A pod that is kept in memory for long.

    Its environment is a copy that all equal ones share, such as those of a ReplicaSet's pods: what msgspec decodes is a
    view of the whole answer of the API server, which would be kept too.
    """

    def __post_init__(self) -> None:
        for container in (*(self.spec.containers or ()), *(self.spec.init_containers or ())):
            msgspec.structs.force_setattr(container, "environment", _shared(bytes(container.environment)))


@lru_cache(maxsize=1024)
def _shared(environment: bytes) -> msgspec.Raw:
    return msgspec.Raw(environment)


class SecretReference(Struct, frozen=True):
    """A Secret of the gate's own namespace, which contains the database's address."""

    name: str


class Database(Struct, frozen=True):
    """``spec.database``."""

    secret_ref: SecretReference


class LedgerReference(Struct, frozen=True):
    """``spec.ledger``: the tool that writes the ledger, and its table if not the tool's default."""

    dialect: str
    schema: str | None = None
    table: str | None = None
    interval: str = "1m"


class ExpectImage(Struct, frozen=True):
    """``spec.expect.image``: the container whose image is asked, None for every one, and whether digests are set."""

    container: str | None = None
    pin: bool = False


class Expect(Struct, frozen=True):
    """``spec.expect``: where a pod's expected revision is found, beside its annotations."""

    env: str | None = None
    image: ExpectImage | None = None


class Bypass(Struct, frozen=True):
    """``spec.bypass``: opens the gate for a limited time."""

    until: str
    reason: str = ""
    by: str = ""


class SelectorRequirement(Struct, frozen=True):
    """An entry of a label selector's ``matchExpressions``."""

    key: str
    operator: str
    values: list[str] | None = None


class LabelSelector(Struct, frozen=True):
    """A label selector; an empty one selects everything."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[SelectorRequirement] | None = None


class ContractEntry(Struct, frozen=True):
    """An entry of ``spec.contracts``: a contract migration of a tool whose ledger records none."""

    revision: str
    compatible_from: str


class LedgerGateSpec(Struct, frozen=True):
    """``spec`` of a LedgerGate, with the CRD's defaults."""

    selector: LabelSelector
    database: Database
    ledger: LedgerReference
    mode: str = "Enforce"
    expect: Expect | None = None
    on_behind: str = "Hold"
    on_behind_workload: str = "Warn"
    on_ahead: str = "Allow"
    on_undeclared: str = "Warn"
    on_unreachable: str = "LastKnown"
    on_contract: str = "Hold"
    contracts: list[ContractEntry] | None = None
    readiness: str | bool = "Off"  # YAML 1.1 reads an unquoted Off as false
    max_hold: str = "8m"
    superseded_pods: str = "Keep"
    bypass: Bypass | None = None


class StatusHistoryEntry(Struct, frozen=True):
    """An entry of ``status.history``: a revision that the ledger was seen to hold."""

    revision: str
    observed_at: str = ""
    compatible_from: str | None = None
    count: int | None = None
    digest: str | None = None
    baseline: bool = False
    head: bool = False


class UnsettledEntry(Struct, frozen=True):
    """An entry of ``status.unsettled``: a migration that is running or has failed."""

    revision: str
    state: str = ""
    after: int = 0


class ImageEntry(Struct, frozen=True):
    """An entry of ``status.images``: what an image said of itself, and the names under which pods had it."""

    image: str
    revision: str | None = None
    contract: str = ""
    ancestors: str | None = None
    references: list[str] = []
    resolved_at: str = ""
    checked_at: str = ""


class RunningMigration(Struct, frozen=True):
    """``status.migration``: the migration that is being applied."""

    revision: str | None = None
    holder: str = ""
    since: str = ""


class ContractPod(Struct, frozen=True):
    """``status.contracting``: the migrator of a contract migration that was released, or is about to be."""

    revision: str = ""
    compatible_from: str = ""
    pod: str = ""
    uid: str = ""
    since: str = ""


class WaitingGroup(Struct, frozen=True):
    """An entry of ``status.contractWaiting.pods``."""

    owner: str = ""
    expected: str = ""
    count: int = 0
    needed: bool = False


class WaitingContract(ContractPod, frozen=True):
    """``status.contractWaiting``: a migrator that is held, and the living pods."""

    pods: list[WaitingGroup] | None = None


class LedgerGateStatus(Struct, frozen=True):
    """Part of a LedgerGate's status: what admission decides from, and the controller reads back after a restart."""

    state: str = ""
    applied: int | None = None
    fault: str | None = None
    source: str | None = None
    observed_at: str | None = None
    ledger_fingerprint: str | None = msgspec.field(default=None, name="place")
    migration: RunningMigration | None = None
    history: list[StatusHistoryEntry] | None = None
    unsettled: list[UnsettledEntry] | None = None
    contracting: ContractPod | None = None
    contract_waiting: WaitingContract | None = None
    images: list[ImageEntry] | None = None
    conditions: list[Condition] | None = None


class LedgerGate(Struct, frozen=True):
    """A LedgerGate object."""

    spec: LedgerGateSpec
    metadata: Metadata = Metadata()
    status: LedgerGateStatus = LedgerGateStatus()


class Secret(Struct, frozen=True):
    """A Secret; msgspec turns the base64 of ``data`` into bytes."""

    metadata: Metadata = Metadata()
    data: dict[str, bytes] | None = None
