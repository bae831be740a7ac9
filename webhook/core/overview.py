"""What a person wants to know of a cluster's gates and held pods: pure, from what the API server keeps.

Nothing here has seen a database: a gate's status says what the controller saw of its ledger, a Held Event what it made
of that. Where no controller has said anything yet, the verdict is made here, of the status.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from migrations.core.ledger import History, Record, State
from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.dialects.catalogue import DIALECTS
from webhook.api.namespace import ADMISSION_LABEL, Namespace
from webhook.api.objects import LedgerGate, LedgerGateStatus, Metadata, Pod, Struct
from webhook.core.gate import Gate, Mode, parse_gate
from webhook.core.pod_verdict import decide_pod
from webhook.core.status import GateState

_OPT_IN = f"kubectl label namespace {{}} {ADMISSION_LABEL}=enabled"


class ShownStatus(LedgerGateStatus, frozen=True):
    """All of a LedgerGate's status that is shown."""

    state: str = ""
    head: str | None = None
    applied: int | None = None
    held_pods: int = 0


class ShownGate(LedgerGate, frozen=True):
    """A LedgerGate with all of its status."""

    status: ShownStatus = ShownStatus()


class Subject(Struct, frozen=True):
    """The object that an Event is about."""

    uid: str = ""


class PodEvent(Struct, frozen=True):
    """A core/v1 Event about a pod."""

    metadata: Metadata = Metadata()
    involved_object: Subject = Subject()
    message: str = ""
    event_time: str | None = None
    last_timestamp: str | None = None

    @property
    def at(self) -> str:
        """When it was said last; RFC 3339 in UTC, so that it sorts."""
        return max(self.event_time or "", self.last_timestamp or "", self.metadata.creation_timestamp or "")


@dataclass(frozen=True, slots=True)
class ListedObjects:
    """What was listed; nothing of what could not be.

    Args:
        notes: Held Events.
        namespaces: those whose opt-in can be told.
    """

    gates: Sequence[ShownGate]
    pods: Sequence[Pod]
    notes: Sequence[PodEvent] = ()
    namespaces: Sequence[Namespace] = ()


@dataclass(frozen=True, slots=True)
class GateRow:
    """One LedgerGate as it is shown.

    Args:
        remarks: what somebody has to know, or to do, one sentence each.
    """

    namespace: str
    name: str
    dialect: str
    head: str | None
    applied: int | None
    state: str
    held: int
    created_at: datetime | None
    migration: Mapping[str, str | None] | None = None
    bypass_until: datetime | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodRow:
    """One held pod as it is shown.

    Args:
        gates: names of the LedgerGates that it waits for.
    """

    namespace: str
    name: str
    gates: tuple[str, ...]
    reason: str
    message: str
    held_since: datetime | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that is shown, sorted by namespace and name."""

    gates: tuple[GateRow, ...]
    held: tuple[PodRow, ...]


def build_overview(found: ListedObjects, now: datetime) -> Overview:
    """Make what is shown of what was listed.

    Args:
        now: aware.
    """
    gates = {gate.key: (seen, gate) for seen in found.gates for gate in [parse_gate(seen)]}
    told: dict[str, PodEvent] = {}
    for note in sorted(found.notes, key=lambda note: note.at):
        told[note.involved_object.uid] = note
    admission = {one.metadata.name: (one.metadata.labels or {}).get(ADMISSION_LABEL) for one in found.namespaces}
    held = [pod for pod in found.pods if pod.held]
    return Overview(
        gates=tuple(_gate_line(*gates[key], admission, now) for key in sorted(gates)),
        held=tuple(
            _pod_line(pod, gates, told.get(pod.metadata.uid), now)
            for pod in sorted(held, key=lambda pod: pod.metadata.key)
        ),
    )


def _gate_line(seen: ShownGate, gate: Gate, admission: Mapping[str, str | None], now: datetime) -> GateRow:
    status, until = seen.status, gate.policy.bypass_until
    running = status.migration
    return GateRow(
        namespace=gate.namespace,
        name=gate.name,
        dialect=gate.dialect,
        head=status.head or None,
        applied=status.applied,
        state=status.state or "Unknown",
        held=status.held_pods,
        created_at=parse_time(seen.metadata.creation_timestamp),
        migration=(
            {"revision": running.revision, "holder": running.holder, "since": running.since} if running else None
        ),
        bypass_until=until if until is not None and now < until else None,
        remarks=tuple(_remarks(seen, gate, admission, now)),
    )


def _remarks(seen: ShownGate, gate: Gate, admission: Mapping[str, str | None], now: datetime) -> Iterable[str]:
    status, policy = seen.status, gate.policy
    if not status.state:
        yield "no controller has looked at it yet; is `ledgergate controller` running?"
    elif status.state != GateState.LIVE:
        ready = next((one.message for one in status.conditions or () if one.type == "Ready"), "")
        yield ready or f"its state is {status.state}"
    if status.migration is not None:
        what, since = status.migration.revision or "a migration", parse_time(status.migration.since)
        yield f"{what} is running, by {status.migration.holder}" + (f", for {format_age(since, now)}" if since else "")
    if policy.bypass_until is not None and now < policy.bypass_until:
        yield f"bypassed until {format_time(policy.bypass_until)}: every pod starts ({policy.bypass_reason})"
    if policy.mode is Mode.AUDIT:
        yield "mode Audit: verdicts are only told, every pod starts"
    if gate.namespace in admission:
        if admission[gate.namespace] == "audit":
            yield f"namespace {gate.namespace} is labelled {ADMISSION_LABEL}=audit: verdicts are only told"
        elif admission[gate.namespace] != "enabled":
            yield f"it guards nothing until its namespace is opted in: {_OPT_IN.format(gate.namespace)}"


def _pod_line(
    pod: Pod, gates: Mapping[tuple[str, str], tuple[ShownGate, Gate]], told: PodEvent | None, now: datetime
) -> PodRow:
    namespace = pod.metadata.namespace
    mine = [(seen, gate) for seen, gate in gates.values() if gate.namespace == namespace]
    selecting = [(seen, gate) for seen, gate in mine if gate.selector.matches(pod.labels)]
    names, reason, message = _why(pod, selecting, told, now)
    return PodRow(namespace, pod.metadata.name, names, reason, message, parse_time(pod.metadata.creation_timestamp))


def _why(
    pod: Pod, selecting: Sequence[tuple[ShownGate, Gate]], told: PodEvent | None, now: datetime
) -> tuple[tuple[str, ...], str, str]:
    """Say which gates hold a pod, and why.

    What the controller said counts, where a status does not tell all that it knew: it names no failed migration, and
    keeps the newest revisions only.
    """
    snapshots = [(gate, _snapshot(seen, gate)) for seen, gate in selecting]
    verdicts = decide_pod(pod, snapshots, now)
    verdict = verdicts.final
    bad = tuple(each.gate.name for each in verdicts.by_gate if not each.verdict.outcome.good)
    partly_known = any(seen.status.state == GateState.DIRTY or _truncated(seen) for seen, _ in selecting)
    if not verdict.outcome.good and not (told and partly_known):
        return bad, verdict.reason, verdict.message
    names = bad or tuple(gate.name for _, gate in selecting)
    if told:
        return names, "Held", told.message
    return names, "Held", "nothing keeps it any more: a controller that runs releases it now"


def _snapshot(seen: ShownGate, gate: Gate) -> LedgerSnapshot:
    """Read a status back: what was known of the ledger when it was written."""
    records = [
        Record(revision=revision, state=State.APPLIED, compatible_from=sighting.compatible_from)
        for revision, sighting in gate.history.items()
    ]
    if seen.status.applied is None or gate.dialect not in DIALECTS:
        return LedgerSnapshot(fault=Fault.UNREAD)
    dialect = DIALECTS[gate.dialect]
    recorded = records[-1:] if dialect.history is History.HEADS else records
    ledger = dialect.ledger_of(recorded).remembering(gate.history)
    known = seen.status.state in {GateState.LIVE, GateState.DIRTY}
    return LedgerSnapshot(ledger, None, None if known else Fault.UNREACHABLE)


def _truncated(seen: ShownGate) -> bool:
    return (seen.status.applied or 0) > len(seen.status.history or ())


def parse_time(text: str | None) -> datetime | None:
    """Read an RFC 3339 time of the API server's; None where there is none, or one that cannot be read."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def format_time(when: datetime) -> str:
    """Write a time for people."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def format_age(since: datetime | None, now: datetime) -> str:
    """Write a duration as kubectl does: its greatest unit."""
    if since is None:
        return ""
    seconds = max(0, int((now - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
