"""What a LedgerGate's status says: pure, from what is known to the object that the API server keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from migrations.core.ledger import Ledger
from migrations.core.snapshot import ActiveMigration, Fault, LedgerSnapshot
from webhook.core.gate import Gate

HISTORY = 50
"""Revisions kept in ``status.history``: those that ``LastKnown`` still knows when both the database and every replica
of ours have been restarted."""


class GateState(StrEnum):
    """How a gate is, in one word: the column STATE and the metric label."""

    LIVE = "Live"
    DIRTY = "Dirty"
    UNREACHABLE = "Unreachable"
    MISCONFIGURED = "Misconfigured"


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a gate from working.

    Args:
        text: what is wrong, and how to put it right.
        passing: it is expected to be over without anybody's doing.
    """

    text: str
    passing: bool = False


@dataclass(frozen=True, slots=True)
class GateObservation:
    """All that a gate's status is made of.

    Args:
        problems: what keeps the gate from working.
        held: pods held by this gate now.
        place: fingerprint of the ledger that the reading is of.
    """

    snapshot: LedgerSnapshot
    problems: tuple[Problem, ...] = ()
    held: int = 0
    place: str = ""

    @property
    def state(self) -> GateState:
        """The gate's state."""
        if any(not problem.passing for problem in self.problems) or self.snapshot.fault in _REMEDIES:
            return GateState.MISCONFIGURED
        if self.problems or self.snapshot.fault is not None or self.snapshot.ledger is None:
            return GateState.UNREACHABLE
        return GateState.DIRTY if self.snapshot.ledger.dirty is not None else GateState.LIVE


@dataclass(frozen=True, slots=True)
class PreviousStatus:
    """What the last status said, as far as the next one goes on from it.

    Args:
        history: when each revision was first seen.
        transitions: status and time of the last transition of each condition, by its type.
    """

    history: Mapping[str, str] = field(default_factory=dict)
    transitions: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of_gate(cls, gate: Gate) -> "PreviousStatus":
        """Remember what a gate's object says."""
        history = {revision: sighting.observed_at for revision, sighting in gate.history.items()}
        return cls(history, gate.transitions)

    def after(self, status: Mapping[str, Any]) -> "PreviousStatus":
        """Remember what was written since, which the object may not say yet."""
        history = {entry["revision"]: entry["observedAt"] for entry in status.get("history") or ()}
        held = {found["type"]: (found["status"], found["lastTransitionTime"]) for found in status["conditions"]}
        return PreviousStatus({**self.history, **history}, held)


def build_status(standing: GateObservation, gate: Gate, memory: PreviousStatus, now: datetime) -> dict[str, Any]:
    """Write a gate's status.

    Args:
        memory: times are kept where nothing has changed.
        now: aware.

    Returns:
        A JSON merge patch of ``status``. Its conditions follow kstatus
        (https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus).
    """
    status: dict[str, Any] = {
        "observedGeneration": gate.generation,
        "state": standing.state.value,
        "heldPods": standing.held,
        "migration": _migration(standing.snapshot.run),
        "conditions": _conditions(standing, gate, memory, now),
    }
    return status | _known(standing, memory, now)


def _known(standing: GateObservation, memory: PreviousStatus, now: datetime) -> dict[str, Any]:
    """Tell what was read of the ledger; what was not read, but remembered from this very status, stays as it stands."""
    snapshot = standing.snapshot
    if snapshot.ledger is None:
        # Nothing is known of this ledger, so what stands there is of another: a null takes it off (RFC 7396).
        return dict.fromkeys(("head", "applied", "place", "history", "observedAt"))
    if snapshot.observed_at is None:
        return {}
    return {
        "head": snapshot.ledger.head or "",
        "applied": len(snapshot.ledger.applied),
        "place": standing.place,
        "history": _history(snapshot.ledger, memory, now),
        "observedAt": _stamp(snapshot.observed_at),
    }


def _history(ledger: Ledger, memory: PreviousStatus, now: datetime) -> list[dict[str, str]]:
    """Keep the newest revisions, and the one contract migration that shuts out most, however old it is."""
    names = ledger.applied[-HISTORY:]
    floor = ledger.strictest_contract
    if floor is not None and floor.revision not in names:
        names = (floor.revision, *names)
    boundaries = {record.revision: record.compatible_from for record in ledger.records if record.compatible_from}
    entries = []
    for name in names:
        entry = {"revision": name, "observedAt": memory.history.get(name) or _stamp(now)}
        boundary = boundaries.get(name)
        entries.append(entry | ({"compatibleFrom": boundary} if boundary else {}))
    return entries


def _migration(run: ActiveMigration | None) -> dict[str, Any] | None:
    """Tell who migrates; every field, since a merge patch would leave the former run's."""
    if run is None:
        return None
    return {"revision": run.revision, "holder": run.holder, "since": run.since and _stamp(run.since)}


def is_same_status(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two statuses differ in nothing but when they were observed."""
    return {**one, "observedAt": ""} == {**other, "observedAt": ""}


def _conditions(standing: GateObservation, gate: Gate, memory: PreviousStatus, now: datetime) -> list[dict[str, Any]]:
    state = standing.state
    ready = state is GateState.LIVE
    stalled = state is GateState.MISCONFIGURED
    holds = {"Ready": ready, "Reconciling": not ready and not stalled, "Stalled": stalled}
    conditions = []
    for kind, held in holds.items():
        status = "True" if held else "False"
        before, since = memory.transitions.get(kind, ("", ""))
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": state.value,
                "message": message(standing, gate),
                "observedGeneration": gate.generation,
                "lastTransitionTime": since if before == status and since else _stamp(now),
            }
        )
    return conditions


_REMEDIES: Mapping[Fault, str] = {
    Fault.AUTHENTICATION: "the database refuses the login of Secret {secret}: correct its user name or password",
    Fault.DATABASE: "the server has no database of the name in Secret {secret}: correct the name, or create it",
    Fault.ADDRESS: "the address or the certificates in Secret {secret} cannot be used: correct them",
    Fault.PERMISSION: "the login of Secret {secret} may not read the ledger: grant it usage on the ledger's schema "
    "and select on its table",
    Fault.LEDGER: "{detail}: correct spec.ledger of this LedgerGate, or the database in Secret {secret}",
}
"""Faults that last until a person does something, and what."""


def message(standing: GateObservation, gate: Gate) -> str:
    """Say how a gate is, and what to do about it; nothing of what the database said."""
    snapshot, ledger = standing.snapshot, standing.snapshot.ledger
    if standing.problems:
        return "; ".join(problem.text for problem in standing.problems)
    if snapshot.fault is not None or ledger is None:
        remedy = _REMEDIES.get(snapshot.fault or Fault.UNREAD, "the ledger cannot be read now")
        detail = snapshot.detail or f"the table is no {gate.dialect} ledger"
        return f"{remedy.format(secret=gate.secret, detail=detail)}; pods follow onUnreachable until then"
    if ledger.dirty is not None:
        return f"migration {ledger.dirty.revision} is recorded as {ledger.dirty.state}"
    return f"the ledger is at {ledger.head}" if ledger.head else "the ledger is empty"


def format_duration(duration: timedelta) -> str:
    """Write a duration as ``spec.maxHold`` has it: 90s is 1m30s."""
    seconds = duration.total_seconds()
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number:g}{unit}" for number, unit in parts if number) or "0s"


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
