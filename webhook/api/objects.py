"""The Kubernetes objects that we read, typed at the edge.

Only the fields that a decision needs are decoded; msgspec skips the rest without building it, which is what makes a
200 KB pod cheap. Field meanings: https://kubernetes.io/docs/reference/kubernetes-api/.
"""

from collections.abc import Mapping

import msgspec

# Kubernetes names of ours that more than one module speaks of (the outside contract fixes them).
SCHEDULING_GATE = "ledgergate.dev/ledger"
GATED_LABEL = "ledgergate.dev/gated"
API_GROUP = "ledgergate.dev"
API_VERSION = "v1alpha1"


class Struct(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """A wire object: camelCase names, unknown fields ignored."""


class OwnerReference(Struct, frozen=True):
    """Who made an object; of several owners the one that manages it is the ``controller``."""

    kind: str
    name: str
    api_version: str = ""
    uid: str = ""
    controller: bool = False


class Metadata(Struct, frozen=True):
    """The part of ObjectMeta that we look at."""

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
        """The owner that manages the object; None where nobody does."""
        return next((owner for owner in self.owner_references or () if owner.controller), None)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


class SchedulingGate(Struct, frozen=True):
    """An entry of a pod's schedulingGates (KEP-3521)."""

    name: str


class ReadinessGate(Struct, frozen=True):
    """An entry of a pod's readinessGates (KEP-580)."""

    condition_type: str


class EnvVar(Struct, frozen=True):
    """A container's environment variable; ``value`` is None where it comes from a reference."""

    name: str
    value: str | None = None


class Container(Struct, frozen=True):
    """A container, as far as its declared environment goes."""

    name: str = ""
    env: list[EnvVar] | None = None


class PodSpec(Struct, frozen=True):
    """What of a pod's spec decides whether, and how, it can be held."""

    node_name: str = ""
    scheduling_gates: list[SchedulingGate] | None = None
    readiness_gates: list[ReadinessGate] | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None


class Condition(Struct, frozen=True):
    """One of ``status.conditions``, of a pod or of a LedgerGate."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class PodStatus(Struct, frozen=True):
    """The part of a pod's status that readiness is made of."""

    phase: str = ""
    conditions: list[Condition] | None = None


class Pod(Struct, frozen=True):
    """A pod as admission and the controller see it."""

    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels, never None."""
        return self.metadata.labels or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations, never None."""
        return self.metadata.annotations or {}

    @property
    def gate_index(self) -> int | None:
        """Where our scheduling gate stands in ``spec.schedulingGates``; None where it does not."""
        for index, gate in enumerate(self.spec.scheduling_gates or ()):
            if gate.name == SCHEDULING_GATE:
                return index
        return None

    @property
    def held(self) -> bool:
        """Whether the pod waits for us: our gate is on it and it is not going away."""
        return self.gate_index is not None and self.metadata.deletion_timestamp is None


class SecretReference(Struct, frozen=True):
    """The Secret of the gate's own namespace that says where the database is."""

    name: str


class Database(Struct, frozen=True):
    """``spec.database``."""

    secret_ref: SecretReference


class LedgerReference(Struct, frozen=True):
    """``spec.ledger``: which tool wrote the ledger, and where it is if not at the tool's default."""

    dialect: str
    schema: str | None = None
    table: str | None = None


class Expect(Struct, frozen=True):
    """``spec.expect``: where a pod declares its revision if not in an annotation."""

    env: str | None = None


class Bypass(Struct, frozen=True):
    """``spec.bypass``: a time-limited opening of the gate."""

    until: str
    reason: str = ""


class SelectorRequirement(Struct, frozen=True):
    """One of a label selector's ``matchExpressions``."""

    key: str
    operator: str
    values: list[str] | None = None


class LabelSelector(Struct, frozen=True):
    """A standard label selector; an empty one selects everything."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[SelectorRequirement] | None = None


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
    readiness: str | bool = "Off"  # YAML 1.1 reads an unquoted Off as false
    max_hold: str = "15m"
    bypass: Bypass | None = None


class StatusHistoryEntry(Struct, frozen=True):
    """One entry of ``status.history``: a revision that the ledger was seen to hold."""

    revision: str
    observed_at: str = ""
    compatible_from: str | None = None


class RunningMigration(Struct, frozen=True):
    """``status.migration``: what is being applied, by whom, since when."""

    revision: str | None = None
    holder: str = ""
    since: str = ""


class LedgerGateStatus(Struct, frozen=True):
    """The part of ``status`` that outlives a restart of ours."""

    place: str | None = None
    migration: RunningMigration | None = None
    history: list[StatusHistoryEntry] | None = None
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
