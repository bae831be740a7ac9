"""The gates and held pods of a cluster as `ledgergate status` shows them, from objects of the API server. Pure.

No database is read here. A gate's status holds what the controller last saw of its ledger, and a Held Event the verdict
that followed. A pod without an Event is judged here, by the status.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from webhook.api.namespace import ADMISSION_LABEL, Namespace, NamespaceLabels, OptIn
from webhook.api.objects import LedgerGate, LedgerGateStatus, Metadata, Pod, Struct
from webhook.core.gate import BYPASS_LIMIT, Gate, Mode, parse_gate
from webhook.core.history import recall_snapshot
from webhook.core.near_misses import find_unknown_labels
from webhook.core.pod_verdict import PodVerdict, await_gate, decide_pod
from webhook.core.status import GateState
from webhook.core.verdict import Reason

_OPT_IN = f"kubectl label namespace {{}} {ADMISSION_LABEL}=enabled"


class ShownStatus(LedgerGateStatus, frozen=True):
    """The fields of a LedgerGate's status that are shown."""

    head: str | None = None
    held_pods: int = 0


class ShownGate(LedgerGate, frozen=True):
    """A LedgerGate with the fields of its status that are shown."""

    status: ShownStatus = ShownStatus()


class Subject(Struct, frozen=True):
    """The object of an Event."""

    uid: str = ""


class PodEvent(Struct, frozen=True):
    """A core/v1 Event about a pod."""

    metadata: Metadata = Metadata()
    involved_object: Subject = Subject()
    message: str = ""
    event_time: str | None = None
    last_timestamp: str | None = None

    @property
    def last_seen(self) -> str:
        """When the event last occurred: RFC 3339 in UTC, so that it sorts as text."""
        return max(self.event_time or "", self.last_timestamp or "", self.metadata.creation_timestamp or "")


@dataclass(frozen=True, slots=True)
class ListedObjects:
    """The objects that were listed; a kind that could not be listed is empty.

    Args:
        events: Held Events of pods.
        namespaces: for their labels; the gates of a namespace that is not here have no remark about its opt-in.
    """

    gates: Sequence[ShownGate]
    pods: Sequence[Pod]
    events: Sequence[PodEvent] = ()
    namespaces: Sequence[Namespace] = ()


@dataclass(frozen=True, slots=True)
class GateRow:
    """One LedgerGate as it is shown.

    Args:
        remarks: what the user should know or do about it, one sentence each.
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
        gates: names of the LedgerGates that hold it.
        source: where its expected revision was found, such as ``annotation ledgergate.dev/revision``; empty where
            none was found.
    """

    namespace: str
    name: str
    gates: tuple[str, ...]
    reason: str
    message: str
    held_since: datetime | None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """All rows, sorted by namespace and name."""

    gates: tuple[GateRow, ...]
    held: tuple[PodRow, ...]


def build_overview(listed: ListedObjects, now: datetime) -> Overview:
    """Build the rows to show from the objects that were listed.

    Args:
        now: aware.
    """
    gates = {gate.key: (found, gate) for found in listed.gates for gate in [parse_gate(found)]}
    newest = {event.involved_object.uid: event for event in sorted(listed.events, key=lambda event: event.last_seen)}
    namespaces = {each.metadata.name: each for each in listed.namespaces}
    held = sorted((pod for pod in listed.pods if pod.held), key=lambda pod: pod.metadata.key)
    return Overview(
        gates=tuple(_gate_row(*gates[key], namespaces.get(key[0]), now) for key in sorted(gates)),
        held=tuple(
            _pod_row(pod, namespaces.get(pod.metadata.namespace), gates, newest.get(pod.metadata.uid), now)
            for pod in held
        ),
    )


def _gate_row(found: ShownGate, gate: Gate, namespace: Namespace | None, now: datetime) -> GateRow:
    status = found.status
    running = status.migration
    return GateRow(
        namespace=gate.namespace,
        name=gate.name,
        dialect=gate.dialect,
        head=status.head or None,
        applied=status.applied,
        state=status.state or "Unknown",
        held=status.held_pods,
        created_at=parse_time(found.metadata.creation_timestamp),
        migration=(
            {"revision": running.revision, "holder": running.holder, "since": running.since} if running else None
        ),
        bypass_until=gate.policy.bypass_until if gate.policy.is_bypassed(now) else None,
        remarks=tuple(_remarks(found, gate, namespace, now)),
    )


def _remarks(found: ShownGate, gate: Gate, namespace: Namespace | None, now: datetime) -> Iterable[str]:
    status, policy = found.status, gate.policy
    if not status.state:
        yield "no controller has read its ledger yet; is `ledgergate controller` running?"
    elif status.state != GateState.LIVE:
        ready = next((condition.message for condition in status.conditions or () if condition.type == "Ready"), "")
        yield ready or f"its state is {status.state}"
    if status.migration is not None:
        name, since = status.migration.revision or "a migration", parse_time(status.migration.since)
        yield f"{name} is running, by {status.migration.holder}" + (f", for {format_age(since, now)}" if since else "")
    yield from _contract_remarks(gate)
    if policy.bypass_until is not None and policy.is_bypassed(now):
        by = f" by {policy.bypass_by}" if policy.bypass_by else ""
        yield f"bypassed until {format_time(policy.bypass_until)}{by}: every pod starts ({policy.bypass_reason})"
    if policy.bypass_until is not None and policy.is_bypass_too_long(now):
        yield f"its bypass until {format_time(policy.bypass_until)} does not count: {BYPASS_LIMIT}"
    if policy.mode is Mode.AUDIT:
        yield "mode Audit: verdicts are only reported, every pod starts"
    if namespace is not None:
        admission = OptIn.of(namespace)
        if admission is OptIn.AUDIT:
            yield f"namespace {gate.namespace} is labelled {ADMISSION_LABEL}=audit: verdicts are only reported"
        elif admission is OptIn.OFF:
            yield f"it guards nothing until its namespace is opted in: {_OPT_IN.format(gate.namespace)}"
        yield from find_unknown_labels(namespace)


def _contract_remarks(gate: Gate) -> Iterable[str]:
    """Yield what a contract migration waits for, by owner and revision, or that it is being applied."""
    waiting, running = gate.contract_waiting, gate.contracting
    if waiting is not None:
        pods = "; ".join(
            f"{group.count} of {group.owner or 'no owner'} expect {group.expected or 'nothing that they declare'}"
            for group in waiting.groups
        )
        step = waiting.step
        yield (
            f"contract migration {step.revision} (pod {step.pod}) needs images from {step.compatible_from} on and "
            f"waits for {waiting.needed} pods; living are: {pods or 'none'}"
        )
    if running is not None:
        yield (
            f"contract migration {running.revision} is released in pod {running.pod}: until it has ended, pods that "
            f"expect less than {running.compatible_from} are refused"
        )


def _pod_row(
    pod: Pod,
    namespace: Namespace | None,
    gates: Mapping[tuple[str, str], tuple[ShownGate, Gate]],
    event: PodEvent | None,
    now: datetime,
) -> PodRow:
    selecting = [
        (found, gate)
        for found, gate in gates.values()
        if gate.namespace == pod.metadata.namespace and gate.selector.matches(pod.labels)
    ]
    verdicts = decide_pod(pod, [(gate, recall_snapshot(gate)) for _, gate in selecting], now)
    if namespace is not None and NamespaceLabels.of(namespace).waits:
        verdicts = await_gate(pod, verdicts)
    names, reason, message = _explain(verdicts, selecting, event)
    held_since = parse_time(pod.metadata.creation_timestamp)
    sources = [str(each.required.source) for each in verdicts.by_gate if each.gate.name in names]
    source = next(filter(None, sources), "")
    return PodRow(*pod.metadata.key, names, reason, message, held_since, source)


_LEFT_TO_CONTROLLER = {Reason.UNDECIDED, Reason.RESOLVING}


def _explain(
    verdicts: PodVerdict, selecting: Sequence[tuple[ShownGate, Gate]], event: PodEvent | None
) -> tuple[tuple[str, ...], str, str]:
    """Return the names of the gates that hold a pod, the reason, and the message.

    The verdict by the gates' statuses is newer than the Event. But a status keeps the newest revisions only, and the
    images that could be read; where that matters, the controller's Event is the better source.
    """
    verdict = verdicts.final
    bad = tuple(decision.gate.name for decision in verdicts.by_gate if not decision.verdict.outcome.good)
    if not verdict.outcome.good and not (event and verdict.reason in _LEFT_TO_CONTROLLER):
        return bad, verdict.reason, verdict.message
    names = bad or tuple(gate.name for _, gate in selecting)
    if event:
        return names, "Held", event.message
    return names, "Held", "nothing holds it any more: a running controller releases it now"


def parse_time(text: str | None) -> datetime | None:
    """Read an RFC 3339 time; None where there is none, or text that is not a time."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def format_time(moment: datetime) -> str:
    """Format a time for people, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def format_age(since: datetime | None, now: datetime) -> str:
    """Format the time since then as kubectl does: in the greatest unit of which there are at least two."""
    if since is None:
        return ""
    seconds = max(0, int((now - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
