"""What a LedgerGate's status says: pure, from what is known to the object that the API server keeps."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from migrations.reading import Reading
from webhook.gate import Gate, Sighting

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
class Standing:
    """All that a gate's status is made of.

    Args:
        problems: what keeps the gate from working, each with its remedy.
        held: pods held by this gate now.
    """

    reading: Reading
    problems: tuple[str, ...] = ()
    held: int = 0

    @property
    def state(self) -> GateState:
        """The gate's state."""
        if self.problems:
            return GateState.MISCONFIGURED
        if self.reading.fault is not None or self.reading.ledger is None:
            return GateState.UNREACHABLE
        return GateState.DIRTY if self.reading.ledger.dirty is not None else GateState.LIVE


def describe(standing: Standing, gate: Gate, now: datetime) -> dict[str, Any]:
    """Write a gate's status.

    Args:
        gate: its history and its conditions' transition times are kept where nothing has changed.
        now: aware.

    Returns:
        A JSON merge patch of ``status``. Its conditions follow kstatus
        (https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus).
    """
    status: dict[str, Any] = {
        "observedGeneration": gate.generation,
        "state": standing.state.value,
        "heldPods": standing.held,
        "conditions": _conditions(standing, gate, now),
    }
    return status | _known(standing.reading, gate, now)


def _known(reading: Reading, gate: Gate, now: datetime) -> dict[str, Any]:
    """Tell what was read of the ledger; what was not read, but remembered from this very status, stays as it stands."""
    if reading.ledger is None:
        # Nothing is known of this ledger, so what stands there is of another: a null takes it off (RFC 7396).
        return dict.fromkeys(("head", "applied", "history", "observedAt"))
    if reading.observed_at is None:
        return {}
    return {
        "head": reading.ledger.head or "",
        "applied": len(reading.ledger.applied),
        "history": [
            {"revision": revision, "observedAt": gate.history.get(revision, Sighting()).observed_at or _stamp(now)}
            for revision in reading.ledger.applied[-HISTORY:]
        ],
        "observedAt": _stamp(reading.observed_at),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two statuses differ in nothing but when they were observed."""
    return {**one, "observedAt": ""} == {**other, "observedAt": ""}


def _conditions(standing: Standing, gate: Gate, now: datetime) -> list[dict[str, Any]]:
    state = standing.state
    ready = state is GateState.LIVE
    stalled = state is GateState.MISCONFIGURED
    holds = {"Ready": ready, "Reconciling": not ready and not stalled, "Stalled": stalled}
    conditions = []
    for kind, held in holds.items():
        status = "True" if held else "False"
        before, since = gate.transitions.get(kind, ("", ""))
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": state.value,
                "message": _message(standing),
                "observedGeneration": gate.generation,
                "lastTransitionTime": since if before == status else _stamp(now),
            }
        )
    return conditions


def _message(standing: Standing) -> str:
    if standing.problems:
        return "; ".join(standing.problems)
    ledger = standing.reading.ledger
    if standing.reading.fault is not None or ledger is None:
        why = f" ({standing.reading.fault})" if standing.reading.fault is not None else ""
        return f"the ledger cannot be read{why}; pods follow onUnreachable until it can"
    if ledger.dirty is not None:
        return f"migration {ledger.dirty.revision} is recorded as {ledger.dirty.state}"
    return f"the ledger is at {ledger.head}" if ledger.head else "the ledger is empty"


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
