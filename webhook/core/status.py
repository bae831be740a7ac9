"""Build a LedgerGate's status from what is known of its ledger. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from migrations.core.ledger import History, Ledger, State
from migrations.core.snapshot import ActiveMigration, Fault, LedgerSnapshot
from migrations.dialects.native import NATIVE
from webhook.core.contract_state import cut_name
from webhook.core.gate import Gate

HISTORY = 50
"""Revisions kept in ``status.history``. Admission, which reads no database, decides by them."""

CONTRACTS = 16
"""Contract migrations kept in ``status.history``, of a tool whose ledger does not record them."""

UNSETTLED = 5
"""Migrations kept in ``status.unsettled``. Verdicts depend on the first of them alone."""


class GateState(StrEnum):
    """State of a gate: the column STATE, a condition's reason and a metric label."""

    LIVE = "Live"
    DIRTY = "Dirty"
    UNREACHABLE = "Unreachable"
    MISCONFIGURED = "Misconfigured"


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason why a gate does not work.

    Args:
        text: what is wrong, and how to correct it.
        transient: it is expected to end without anyone's action.
    """

    text: str
    transient: bool = False


@dataclass(frozen=True, slots=True)
class GateObservation:
    """What a gate's status is built from.

    Args:
        problems: why the gate does not work; empty where it does.
        held: number of pods that the gate holds now.
        ledger_fingerprint: identifies the ledger that ``snapshot`` is about.
    """

    snapshot: LedgerSnapshot
    problems: tuple[Problem, ...] = ()
    held: int = 0
    ledger_fingerprint: str = ""

    @property
    def state(self) -> GateState:
        """The gate's state."""
        if any(not problem.transient for problem in self.problems) or self.snapshot.fault in _REMEDIES:
            return GateState.MISCONFIGURED
        if self.problems or self.snapshot.fault is not None or self.snapshot.ledger is None:
            return GateState.UNREACHABLE
        return GateState.DIRTY if self.snapshot.ledger.dirty is not None else GateState.LIVE

    @property
    def fault(self) -> str | None:
        """Why the ledger cannot be read now, for admission, which then follows ``onUnreachable``; None where it can."""
        fault = self.snapshot.fault
        return Fault.UNREACHABLE.value if fault is Fault.UNREAD else fault and fault.value


@dataclass(frozen=True, slots=True)
class PreviousStatus:
    """What the next status keeps of the previous one.

    Args:
        history: when each revision was first seen, by revision.
        transitions: status and time of the last transition of each condition, by its type.
        boundaries: the oldest revision whose images can run with a contract migration, by the migration; only where the
            ledger does not record it.
    """

    history: Mapping[str, str] = field(default_factory=dict)
    transitions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    boundaries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_gate(cls, gate: Gate) -> "PreviousStatus":
        """Return what the status of a gate has."""
        history = {revision: recorded.observed_at for revision, recorded in gate.history.items()}
        return cls(history, gate.transitions, dict(gate.former_contracts))

    def updated(self, status: Mapping[str, Any]) -> "PreviousStatus":
        """Return this, updated by a status that was written since: the watch may not have delivered it yet."""
        entries = status.get("history") or ()
        history = {entry["revision"]: entry["observedAt"] for entry in entries}
        transitions = {each["type"]: (each["status"], each["lastTransitionTime"]) for each in status["conditions"]}
        boundaries = {entry["revision"]: entry["compatibleFrom"] for entry in entries if "compatibleFrom" in entry}
        return PreviousStatus({**self.history, **history}, transitions, {**self.boundaries, **boundaries})


def build_status(observation: GateObservation, gate: Gate, previous: PreviousStatus, now: datetime) -> dict[str, Any]:
    """Build a gate's status.

    Args:
        previous: its times are kept where nothing has changed.
        now: aware.

    Returns:
        A JSON merge patch of ``status``. Its conditions follow kstatus
        (https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus).
    """
    status: dict[str, Any] = {
        "observedGeneration": gate.generation,
        "state": observation.state.value,
        "heldPods": observation.held,
        "fault": observation.fault,
        "migration": _migration(observation.snapshot.run),
        "conditions": _conditions(observation, gate, previous, now),
    }
    return status | _ledger_fields(observation, gate, previous, now)


def is_same_status(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two statuses are equal, whatever the times of their observations."""
    return {**one, "observedAt": ""} == {**other, "observedAt": ""}


def _ledger_fields(observation: GateObservation, gate: Gate, previous: PreviousStatus, now: datetime) -> dict[str, Any]:
    snapshot = observation.snapshot
    if snapshot.ledger is None:
        # Nothing is known of this ledger, so the status that exists may describe another one. A null removes a field
        # in a merge patch (RFC 7396).
        fields = ("head", "applied", "place", "history", "unsettled", "observedAt")
        return dict.fromkeys(fields) | {"source": gate.source}
    if snapshot.observed_at is None:
        # The ledger was not read by this process: it was restored from this status, which is left as it is.
        return {}
    return {
        "head": cut_name(snapshot.ledger.head or ""),
        "applied": len(snapshot.ledger.applied),
        "place": observation.ledger_fingerprint,
        "source": gate.source,
        "history": _history(snapshot.ledger, gate, previous, now),
        "unsettled": _unsettled(snapshot.ledger) or None,
        "observedAt": _timestamp(snapshot.observed_at),
    }


def _history(ledger: Ledger, gate: Gate, previous: PreviousStatus, now: datetime) -> list[dict[str, Any]]:
    """Return the newest revisions and, however old they are, those that decide about images older than these.

    That is the baseline before which nothing is recorded, and the contract migration that excludes most images or,
    where the ledger does not record them, the newest `CONTRACTS` of them.
    """
    newest = ledger.applied[-HISTORY:]
    records = {record.revision: record for record in ledger.records if record.state is State.APPLIED}
    baselines = [name for name, record in records.items() if record.baseline]
    boundaries, contract = _boundaries(ledger, gate, previous), ledger.strictest_contract
    contracts = [contract.revision] if contract else list(boundaries)[-CONTRACTS:]
    kept = {*baselines[-1:], *contracts} - set(newest)
    entries = []
    for name in (*(name for name in ledger.applied if name in kept), *newest):
        shown, record, extent = cut_name(name), records.get(name), ledger.extent(name)
        entry: dict[str, Any] = {"revision": shown, "observedAt": previous.history.get(shown) or _timestamp(now)}
        if extent is not None:
            entry |= {"count": extent[0], "digest": extent[1]}
        boundary = boundaries.get(name) or (record and record.compatible_from)
        if boundary:
            entry["compatibleFrom"] = cut_name(boundary)
        if record is not None and record.baseline:
            entry["baseline"] = True
        if record is not None and ledger.history is History.HEADS:
            entry["head"] = True
        entries.append(entry)
    return entries


def _boundaries(ledger: Ledger, gate: Gate, previous: PreviousStatus) -> dict[str, str]:
    """Return the boundaries of applied contract migrations that the ledger does not record, in the ledger's order.

    The spec counts before the migrator that was released, and the migrator before the previous status.
    """
    if gate.dialect == NATIVE.name:
        return {}
    key, step = ledger.versioning.key, gate.contracting
    running = {step.revision: step.compatible_from} if step else {}
    said = {
        key(name): boundary for name, boundary in {**previous.boundaries, **running, **dict(gate.contracts)}.items()
    }
    return {name: said[key(name)] for name in ledger.applied if key(name) in said}


def _unsettled(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the first migrations that are running or have failed, each with the number of those applied before it."""
    entries: list[dict[str, Any]] = []
    applied: set[str] = set()
    for record in ledger.records:
        if record.state is State.APPLIED:
            applied.add(ledger.versioning.key(record.revision))
            continue
        entries.append({"revision": cut_name(record.revision), "state": record.state.value, "after": len(applied)})
        if len(entries) == UNSETTLED:
            break
    return entries


def _migration(run: ActiveMigration | None) -> dict[str, Any] | None:
    """Return ``status.migration`` with every field: a merge patch keeps the old value of a field that is left out."""
    if run is None:
        return None
    revision = run.revision and cut_name(run.revision)
    return {"revision": revision, "holder": cut_name(run.holder), "since": run.since and _timestamp(run.since)}


def _conditions(
    observation: GateObservation, gate: Gate, previous: PreviousStatus, now: datetime
) -> list[dict[str, Any]]:
    state = observation.state
    ready = state is GateState.LIVE
    stalled = state is GateState.MISCONFIGURED
    # Exactly one of the three is True, which is what kstatus and `kubectl wait` rely on.
    statuses = {"Ready": ready, "Reconciling": not ready and not stalled, "Stalled": stalled}
    conditions = []
    for condition, is_true in statuses.items():
        status = "True" if is_true else "False"
        before, since = previous.transitions.get(condition, ("", ""))
        conditions.append(
            {
                "type": condition,
                "status": status,
                "reason": state.value,
                "message": status_message(observation, gate),
                "observedGeneration": gate.generation,
                "lastTransitionTime": since if before == status and since else _timestamp(now),
            }
        )
    return conditions


_REMEDIES: Mapping[Fault, str] = {
    Fault.AUTHENTICATION: "the database refuses the login of Secret {secret}: correct its user name or password",
    Fault.DATABASE: "the server does not have the database that Secret {secret} names: correct the name, or create it",
    Fault.ADDRESS: "{detail}: correct Secret {secret}",
    Fault.PERMISSION: "the login of Secret {secret} may not read the ledger: grant it usage on the ledger's schema "
    "and select on its table",
    Fault.ROWS_HIDDEN: "{detail} hides rows of the ledger from the login of Secret {secret}: give its role BYPASSRLS, "
    "or disable row level security on the table",
    Fault.LEDGER: "{detail}: correct spec.ledger of this LedgerGate, or the database in Secret {secret}",
}
"""Faults that last until someone corrects them, and how. Each makes the gate Misconfigured."""


def status_message(observation: GateObservation, gate: Gate) -> str:
    """Return the message of a gate's conditions: its state and, where it does not work, the remedy.

    It contains nothing that the database answered, which could name a host or a user.
    """
    snapshot, ledger = observation.snapshot, observation.snapshot.ledger
    if observation.problems:
        return "; ".join(problem.text for problem in observation.problems)
    if snapshot.fault is not None or ledger is None:
        remedy = _REMEDIES.get(snapshot.fault or Fault.UNREAD, "the ledger cannot be read now")
        unnamed = {
            Fault.ROWS_HIDDEN: "row-level security",
            Fault.ADDRESS: "the address or the certificates cannot be used",
        }
        table = f"the table is no {gate.dialect} ledger"
        detail = cut_name(snapshot.detail) or unnamed.get(snapshot.fault or Fault.UNREAD, table)
        return f"{remedy.format(secret=gate.secret, detail=detail)}; pods follow onUnreachable until then"
    where = ", read from a standby" if snapshot.standby else ""
    if snapshot.unverified:
        where += (
            f"; nothing proves that the server is the right one: set sslmode and sslrootcert in Secret {gate.secret}"
        )
    if ledger.dirty is not None:
        return f"migration {cut_name(ledger.dirty.revision)} is recorded as {ledger.dirty.state}{where}"
    if snapshot.missing_table:
        return f"the ledger is empty: the table {cut_name(snapshot.missing_table)} does not exist{where}"
    return (f"the ledger is at {cut_name(ledger.head)}" if ledger.head else "the ledger is empty") + where


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
