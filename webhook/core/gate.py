"""A LedgerGate object, parsed into the values that decisions are made from, with every problem of its spec."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from migrations.core.contract import Contract
from migrations.core.revision import canonical
from migrations.dialects.catalogue import DIALECTS
from migrations.dialects.native import NATIVE
from webhook.api.objects import (
    Bypass,
    ContractPod,
    LedgerGate,
    LedgerGateSpec,
    RunningMigration,
    WaitingContract,
)
from webhook.core.contract_state import ContractStep, ContractWaiting, PodGroup
from webhook.core.duration import parse_duration
from webhook.core.images import ExpectedImage, ImageRecord, index_images
from webhook.core.selector import Selector, compile_selector

DEFAULT_INTERVAL = 60.0
SHORTEST_INTERVAL, LONGEST_INTERVAL = 10.0, 86400.0
"""Seconds between two looks at a ledger at rest."""
MAX_BYPASS = timedelta(hours=24)
"""A gate that stays open for longer is no emergency: `spec.mode: Audit` belongs in its manifest."""
CLOCK_TOLERANCE = timedelta(minutes=1)
"""How far the clock of a bypass's author may be ahead of the clock that judges it."""
BYPASS_LIMIT = "spec.bypass.until may be 24 hours ahead at most; for longer, set spec.mode to Audit"


class Mode(StrEnum):
    """Whether verdicts take effect, or are only reported."""

    ENFORCE = "Enforce"
    AUDIT = "Audit"


class Action(StrEnum):
    """What a gate does with a pod: the values of the ``on…`` fields."""

    ALLOW = "Allow"
    WARN = "Warn"
    HOLD = "Hold"
    DENY = "Deny"
    LAST_KNOWN = "LastKnown"


class Readiness(StrEnum):
    """Whether a pod's readiness depends on the ledger too."""

    OFF = "Off"
    LATCH = "Latch"
    """Ready from when its revision was first seen applied, whatever happens to the ledger later."""
    LIVE = "Live"
    """Not ready while the ledger is seen to lack the revision, also after the pod was ready."""


class SupersededPods(StrEnum):
    """What happens to a StatefulSet's held pod that a newer revision has superseded."""

    KEEP = "Keep"
    DELETE = "Delete"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a gate does with a pod, by the verdict's reason.

    Args:
        bypass_until: the gate is open until then (aware datetime); None where no bypass is set.
        bypass_reason: why it is open, as its author wrote it.
        on_behind_workload: what happens to a Deployment, StatefulSet, ... whose pods would be held: WARN or DENY.
        max_hold: how long a pod may be held before an Event and a metric say so. The default is below the 10 minutes of
            a Deployment's progressDeadlineSeconds, after which `kubectl rollout status` fails.
        on_contract: what happens to a migrator that brings a contract migration which the ledger lacks.
        superseded_pods: what happens to a held pod that its StatefulSet has superseded and does not replace.
        bypass_by: user name of who opened it, checked by a policy of the API server; empty where it is not known.
    """

    mode: Mode = Mode.ENFORCE
    on_behind: Action = Action.HOLD
    on_ahead: Action = Action.ALLOW
    on_undeclared: Action = Action.WARN
    on_unreachable: Action = Action.LAST_KNOWN
    bypass_until: datetime | None = None
    bypass_reason: str = ""
    on_behind_workload: Action = Action.WARN
    readiness: Readiness = Readiness.OFF
    max_hold: timedelta = timedelta(minutes=8)
    on_contract: Action = Action.HOLD
    superseded_pods: SupersededPods = SupersededPods.KEEP
    bypass_by: str = ""

    def is_bypassed(self, now: datetime) -> bool:
        """Return whether the gate is open at an aware time."""
        return self.bypass_until is not None and now < self.bypass_until and not self.is_bypass_too_long(now)

    def is_bypass_too_long(self, now: datetime) -> bool:
        """Return whether the bypass ends so late that it does not count at an aware time.

        The API server's policies have no clock, so the limit cannot be checked where the bypass is stored.
        """
        return self.bypass_until is not None and self.bypass_until - now > MAX_BYPASS + CLOCK_TOLERANCE

    def next_bypass_change(self, now: datetime) -> timedelta | None:
        """Return the time until the bypass takes effect, or ends; None where neither will happen."""
        if self.bypass_until is None or self.bypass_until <= now:
            return None
        left = self.bypass_until - now
        return left - MAX_BYPASS - CLOCK_TOLERANCE if self.is_bypass_too_long(now) else left


@dataclass(frozen=True, slots=True)
class RecordedRevision:
    """One entry of ``status.history``, without the revision's name.

    Args:
        observed_at: when the revision was first seen in the ledger (RFC 3339); empty where that is not known.
        compatible_from: for a contract migration, the oldest revision whose images can still run. Where the ledger does
            not record it, the spec or the migrator declared it.
        count: how many revisions were applied up to this one; None where the status does not say.
        digest: the digest over their names; None exactly where `count` is.
        baseline: everything older counts as applied too.
        is_head: a current head, where the tool records heads only.
    """

    observed_at: str = ""
    compatible_from: str | None = None
    count: int | None = None
    digest: str | None = None
    baseline: bool = False
    is_head: bool = False


@dataclass(frozen=True, slots=True)
class RecordedMigration:
    """One entry of ``status.unsettled``: a migration that was running or had failed.

    Args:
        after: how many applied revisions come before it in the ledger.
    """

    revision: str
    state: str
    after: int = 0


@dataclass(frozen=True, slots=True)
class RecordedReading:
    """What a status says of the reading that it was written after, beside the history.

    Args:
        state: the gate's state; empty where no status was written yet.
        applied: how many revisions were applied; None where the ledger was never read.
        fault: why the ledger could not be read; empty where it could.
        source: :attr:`Gate.source` of the spec whose ledger was read; empty in a status of an older version.
        observed_at: when the ledger was read (RFC 3339).
        unsettled: the first migrations that were running or had failed.
    """

    state: str = ""
    applied: int | None = None
    fault: str = ""
    source: str = ""
    observed_at: str = ""
    unsettled: tuple[RecordedMigration, ...] = ()


@dataclass(frozen=True, slots=True)
class Gate:
    """One LedgerGate.

    Args:
        secret: name of the Secret with the database's address, in the gate's own namespace.
        expect_env: the environment variable that declares a pod's revision; None where only annotations do.
        expect_image: which image's labels declare it; None where images are not asked.
        problems: what keeps the gate from working, each with its field; its pods then follow ``onUnreachable``.
        look_interval: seconds between two looks at the ledger at rest.
        generation: generation of the spec.
        created: when the object was created (RFC 3339, UTC, so that it sorts as text).
        history: the newest revisions that the ledger was seen to hold, in the ledger's order.
        ledger_fingerprint: identifies the ledger that ``history`` is about (``status.place``); empty where unknown.
        reading: what else the status says of the ledger.
        migration: the migration that was running when the status was written.
        images: what the images of its pods say, by digest and by name.
        transitions: status and time of the last transition of each condition, by its type.
        contracts: the contract migrations of a tool whose ledger records none, oldest first.
        former_contracts: those that the status remembers and ``contracts`` does not name. A rollback takes an entry
            out of the spec, and not the migration out of the database.
        contracting: the migrator that applies a contract migration now.
        contract_waiting: the migrator that waits until no living pod needs the old schema.
        cleared: uid of the migrator that the controller has found to break no living pod; admission does not know it.
    """

    namespace: str
    name: str
    selector: Selector
    secret: str
    dialect: str
    schema: str | None = None
    table: str | None = None
    expect_env: str | None = None
    expect_image: ExpectedImage | None = None
    policy: Policy = field(default_factory=Policy)
    problems: tuple[str, ...] = ()
    look_interval: float = DEFAULT_INTERVAL
    generation: int = 0
    created: str = ""
    # The status is written by ledgergate itself: two gates that differ in it alone are equal, or each status that is
    # written would count as a change of the gate.
    history: Mapping[str, RecordedRevision] = field(default_factory=dict, compare=False)
    ledger_fingerprint: str = field(default="", compare=False)
    reading: RecordedReading = field(default=RecordedReading(), compare=False)
    migration: RunningMigration | None = field(default=None, compare=False)
    images: Mapping[str, ImageRecord] = field(default_factory=dict, compare=False)
    transitions: Mapping[str, tuple[str, str]] = field(default_factory=dict, compare=False)
    contracts: tuple[Contract, ...] = ()
    former_contracts: tuple[Contract, ...] = field(default=(), compare=False)
    contracting: ContractStep | None = field(default=None, compare=False)
    contract_waiting: ContractWaiting | None = field(default=None, compare=False)
    cleared: str = field(default="", compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def source(self) -> str:
        """A hash of the ledger's location in the spec: a status that was written for another location is void."""
        where = self.secret, self.dialect, self.schema, self.table
        return hashlib.sha256(repr(where).encode(errors="surrogatepass")).hexdigest()[:16]


_ALLOWED: dict[str, tuple[Action, ...]] = {
    "onBehind": (Action.HOLD, Action.DENY, Action.WARN),
    "onBehindWorkload": (Action.WARN, Action.DENY),
    "onAhead": (Action.ALLOW, Action.WARN, Action.DENY),
    "onUndeclared": (Action.WARN, Action.HOLD, Action.DENY, Action.ALLOW),
    "onContract": (Action.HOLD, Action.DENY, Action.WARN, Action.ALLOW),
    "onUnreachable": (Action.LAST_KNOWN, Action.HOLD, Action.DENY, Action.ALLOW),
}


def parse_gate(resource: LedgerGate) -> Gate:
    """Read a LedgerGate object.

    The CRD's schema refuses most invalid values. One that it let through (an older CRD, a newer object) becomes a
    problem and is replaced by the field's default, so that an invalid field never opens a gate.
    """
    spec, status = resource.spec, resource.status
    selector, selector_problems = compile_selector(spec.selector)
    contracts = tuple(
        Contract(canonical(each.revision), canonical(each.compatible_from)) for each in spec.contracts or ()
    )
    problems = list(selector_problems)
    if spec.ledger.dialect not in DIALECTS:
        problems.append(f"spec.ledger.dialect: {spec.ledger.dialect!r} is not one of {', '.join(sorted(DIALECTS))}")
    return Gate(
        namespace=resource.metadata.namespace,
        name=resource.metadata.name,
        selector=selector,
        secret=spec.database.secret_ref.name,
        dialect=spec.ledger.dialect,
        schema=spec.ledger.schema,
        table=spec.ledger.table,
        expect_env=spec.expect.env if spec.expect else None,
        expect_image=(
            ExpectedImage(spec.expect.image.container, spec.expect.image.pin)
            if spec.expect and spec.expect.image
            else None
        ),
        policy=_policy(spec, problems),
        look_interval=_look_interval(spec.ledger.interval, problems),
        problems=tuple(problems),
        generation=resource.metadata.generation,
        created=resource.metadata.creation_timestamp or "",
        history={
            entry.revision: RecordedRevision(
                entry.observed_at, entry.compatible_from, entry.count, entry.digest, entry.baseline, entry.head
            )
            for entry in status.history or ()
        },
        ledger_fingerprint=status.ledger_fingerprint or "",
        reading=RecordedReading(
            state=status.state,
            applied=status.applied,
            fault=status.fault or "",
            source=status.source or "",
            observed_at=status.observed_at or "",
            unsettled=tuple(
                RecordedMigration(entry.revision, entry.state, entry.after) for entry in status.unsettled or ()
            ),
        ),
        migration=status.migration,
        images=index_images(status.images or ()),
        transitions={each.type: (each.status, each.last_transition_time or "") for each in status.conditions or ()},
        contracts=contracts,
        former_contracts=_former_contracts(resource, {each.revision for each in contracts}),
        contracting=_step(status.contracting),
        contract_waiting=_waiting(status.contract_waiting),
    )


def _former_contracts(resource: LedgerGate, named: set[str]) -> tuple[Contract, ...]:
    """Return the contract migrations that only ``status.history`` names; none where the ledger records them itself."""
    if resource.spec.ledger.dialect == NATIVE.name:
        return ()
    return tuple(
        Contract(entry.revision, entry.compatible_from)
        for entry in resource.status.history or ()
        if entry.compatible_from and entry.revision not in named
    )


def _step(found: ContractPod | None) -> ContractStep | None:
    if found is None or not found.compatible_from:
        return None
    return ContractStep(found.revision, found.compatible_from, found.pod, found.uid, found.since)


def _waiting(found: WaitingContract | None) -> ContractWaiting | None:
    step = _step(found)
    if found is None or step is None:
        return None
    groups = (PodGroup(each.owner, each.expected, each.count, each.needed) for each in found.pods or ())
    return ContractWaiting(step, tuple(groups))


def _policy(spec: LedgerGateSpec, problems: list[str]) -> Policy:
    def action(name: str, value: str) -> Action:
        return _one_of(f"spec.{name}", value, _ALLOWED[name], problems)

    return Policy(
        mode=_one_of("spec.mode", spec.mode, tuple(Mode), problems),
        on_behind=action("onBehind", spec.on_behind),
        on_ahead=action("onAhead", spec.on_ahead),
        on_undeclared=action("onUndeclared", spec.on_undeclared),
        on_unreachable=action("onUnreachable", spec.on_unreachable),
        on_contract=action("onContract", spec.on_contract),
        superseded_pods=_one_of("spec.supersededPods", spec.superseded_pods, tuple(SupersededPods), problems),
        bypass_until=_bypass_until(spec.bypass, problems),
        bypass_reason=spec.bypass.reason if spec.bypass else "",
        bypass_by=spec.bypass.by if spec.bypass else "",
        on_behind_workload=action("onBehindWorkload", spec.on_behind_workload),
        readiness=_one_of(
            "spec.readiness", Readiness.OFF if spec.readiness is False else spec.readiness, tuple(Readiness), problems
        ),
        max_hold=_max_hold(spec.max_hold, problems),
    )


E = TypeVar("E", bound=StrEnum)


def _one_of(field_path: str, value: object, allowed: tuple[E, ...], problems: list[str]) -> E:
    """Return the allowed value; on any other note a problem and return the field's default, the first of them."""
    for option in allowed:
        if option == value:
            return option
    problems.append(f"{field_path}: {value!r} is not one of {', '.join(allowed)}")
    return allowed[0]


def _max_hold(text: str, problems: list[str]) -> timedelta:
    """Read a duration such as 90s, 15m or 1h30m; on anything else note a problem and return the default."""
    try:
        return parse_duration(text)
    except ValueError:
        problems.append(f"spec.maxHold: {text!r} is not a duration such as 90s, 15m or 1h30m")
        return Policy().max_hold


def _look_interval(text: str, problems: list[str]) -> float:
    """Read the duration between two looks, in seconds; on anything else note a problem and return the default."""
    try:
        interval = parse_duration(text).total_seconds()
    except ValueError:
        interval = 0.0
    if SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        return interval
    problems.append(f"spec.ledger.interval: {text!r} is not a duration from 10s to 24h")
    return DEFAULT_INTERVAL


def _bypass_until(bypass: Bypass | None, problems: list[str]) -> datetime | None:
    if bypass is None:
        return None
    try:
        until = datetime.fromisoformat(bypass.until)
    except (ValueError, OverflowError):
        problems.append(f"spec.bypass.until: {bypass.until!r} is not an RFC 3339 time such as 2026-01-31T18:00:00Z")
        return None
    return until if until.tzinfo else until.replace(tzinfo=UTC)
