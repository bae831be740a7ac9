"""What a LedgerGate's Events say: pure, from how it stands. Each is told when it begins to hold."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from migrations.core.ledger import State
from webhook.controller.held_pods import HeldCount
from webhook.core.gate import Gate
from webhook.core.status import GateObservation, GateState, format_duration, status_message


@dataclass(frozen=True, slots=True, order=True)
class GateEvent:
    """One Event on a LedgerGate.

    Args:
        reason: in one word, what it is about.
        note: one sentence, with what to do where something is to be done.
        warning: somebody should do something about it.
        once: what makes it the same as one that was told before, by whichever controller.
    """

    reason: str
    note: str
    warning: bool
    once: str


def gate_events(
    standing: GateObservation, gate: Gate, status: dict[str, Any], count: HeldCount, now: datetime
) -> frozenset[GateEvent]:
    """Say what is worth telling of a gate.

    Args:
        status: as it was written; its conditions tell since when the state holds.
        count: how many pods it holds.
        now: aware.
    """
    told = {_state(standing, gate, status)}
    if count.overdue:
        limit = format_duration(gate.policy.max_hold)
        note = f"pods are held for longer than {limit}: {status_message(standing, gate)}"
        told.add(GateEvent("HeldTooLong", note, warning=True, once=note))
    until = gate.policy.bypass_until
    if until is not None:
        stamp = f"{until:%Y-%m-%dT%H:%M:%SZ}"
        if now < until:
            note = f"every pod starts, whatever its ledger says, until {stamp}: {gate.policy.bypass_reason}"
            told.add(GateEvent("Bypassed", note, warning=True, once=note))
        else:
            note = f"the bypass has ended at {stamp}: verdicts count again; take spec.bypass away"
            told.add(GateEvent("BypassEnded", note, warning=False, once=note))
    return frozenset(told)


def unreadable_event(error: str) -> frozenset[GateEvent]:
    """Say that a gate's object cannot be decoded.

    Args:
        error: what is wrong with it.
    """
    note = (
        f"this version of ledgergate cannot read the object ({error}): what was known of it stays in force, and pods "
        "that declare a revision and that no other LedgerGate selects are held; correct it, or update ledgergate"
    )
    return frozenset({GateEvent("Unreadable", note, warning=True, once=note)})


def _state(standing: GateObservation, gate: Gate, status: dict[str, Any]) -> GateEvent:
    since = next(held["lastTransitionTime"] for held in status["conditions"] if held["status"] == "True")
    state, ledger = standing.state, standing.snapshot.ledger
    # A ledger goes through many heads, and these are no news; of what has to be put right, every word is.
    note = "the ledger can be read" if state is GateState.LIVE else status_message(standing, gate)
    dirty = ledger.dirty if ledger is not None else None
    running = state is GateState.DIRTY and dirty is not None and dirty.state is State.RUNNING
    warning = state is not GateState.LIVE and not running
    return GateEvent(state.value, note, warning, once=f"{note}\n{since}")
