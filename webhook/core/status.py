"""Build a LedgerGate's status from what is known of its ledger. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from migrations.core.ledger import Ledger
from migrations.core.snapshot import ActiveMigration, Fault, LedgerSnapshot
from webhook.core.gate import Gate

HISTORY = 50
"""Revisions kept in ``status.history``. ``LastKnown`` decides by them when the database is down and every replica of
ledgergate has restarted."""


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


@dataclass(frozen=True, slots=True)
class PreviousStatus:
    """The times in the previous status that the next one keeps.

    Args:
        history: when each revision was first seen, by revision.
        transitions: status and time of the last transition of each condition, by its type.
    """

    history: Mapping[str, str] = field(default_factory=dict)
    transitions: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def from_gate(cls, gate: Gate) -> "PreviousStatus":
        """Return the times in a gate's object."""
        history = {revision: recorded.observed_at for revision, recorded in gate.history.items()}
        return cls(history, gate.transitions)

    def updated(self, status: Mapping[str, Any]) -> "PreviousStatus":
        """Return these times with those of a status that was written since: the watch may not have brought it yet."""
        history = {entry["revision"]: entry["observedAt"] for entry in status.get("history") or ()}
        transitions = {each["type"]: (each["status"], each["lastTransitionTime"]) for each in status["conditions"]}
        return PreviousStatus({**self.history, **history}, transitions)


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
        "migration": _migration(observation.snapshot.run),
        "conditions": _conditions(observation, gate, previous, now),
    }
    return status | _ledger_fields(observation, previous, now)


def is_same_status(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Decide whether two statuses differ in nothing but the time of the observation."""
    return {**one, "observedAt": ""} == {**other, "observedAt": ""}


def _ledger_fields(observation: GateObservation, previous: PreviousStatus, now: datetime) -> dict[str, Any]:
    snapshot = observation.snapshot
    if snapshot.ledger is None:
        # Nothing is known of this ledger, so the status that exists may describe another one. A null removes a field
        # in a merge patch (RFC 7396).
        return dict.fromkeys(("head", "applied", "place", "history", "observedAt"))
    if snapshot.observed_at is None:
        # The ledger was not read by this process: it was restored from this status, which is left as it is.
        return {}
    return {
        "head": snapshot.ledger.head or "",
        "applied": len(snapshot.ledger.applied),
        "place": observation.ledger_fingerprint,
        "history": _history(snapshot.ledger, previous, now),
        "observedAt": _timestamp(snapshot.observed_at),
    }


def _history(ledger: Ledger, previous: PreviousStatus, now: datetime) -> list[dict[str, str]]:
    """Return the newest revisions, and the contract migration that excludes most images, however old it is."""
    names = ledger.applied[-HISTORY:]
    contract = ledger.strictest_contract
    if contract is not None and contract.revision not in names:
        names = (contract.revision, *names)
    boundaries = {record.revision: record.compatible_from for record in ledger.records if record.compatible_from}
    entries = []
    for name in names:
        entry = {"revision": name, "observedAt": previous.history.get(name) or _timestamp(now)}
        boundary = boundaries.get(name)
        entries.append(entry | ({"compatibleFrom": boundary} if boundary else {}))
    return entries


def _migration(run: ActiveMigration | None) -> dict[str, Any] | None:
    """Return ``status.migration``, with every field: a merge patch would keep the previous run's value of another."""
    if run is None:
        return None
    return {"revision": run.revision, "holder": run.holder, "since": run.since and _timestamp(run.since)}


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
    Fault.ADDRESS: "the address or the certificates in Secret {secret} cannot be used: correct them",
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
        detail = snapshot.detail or f"the table is no {gate.dialect} ledger"
        if snapshot.fault is Fault.ROWS_HIDDEN:
            detail = snapshot.detail or "row-level security"
        return f"{remedy.format(secret=gate.secret, detail=detail)}; pods follow onUnreachable until then"
    if ledger.dirty is not None:
        return f"migration {ledger.dirty.revision} is recorded as {ledger.dirty.state}"
    if snapshot.missing_table:
        return f"the ledger is empty: the table {snapshot.missing_table} does not exist"
    return f"the ledger is at {ledger.head}" if ledger.head else "the ledger is empty"


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
