"""The Events of a LedgerGate, derived from its state alone. Each is emitted when it begins to hold."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from migrations.core.ledger import State
from webhook.controller.held_pods import HeldCount
from webhook.core.duration import format_duration
from webhook.core.gate import BYPASS_LIMIT, Gate, Policy
from webhook.core.status import GateObservation, GateState, status_message


@dataclass(frozen=True, slots=True, order=True)
class GateEvent:
    """One Event on a LedgerGate.

    Args:
        reason: what it is about, in one word.
        note: one sentence; it says what to do, where something is to be done.
        warning: a person should act.
        dedup_key: two Events with the same key are one, whichever controller writes them.
    """

    reason: str
    note: str
    warning: bool
    dedup_key: str


def gate_events(
    observation: GateObservation, gate: Gate, status: dict[str, Any], count: HeldCount, now: datetime
) -> frozenset[GateEvent]:
    """Return the Events that hold of a gate now.

    Args:
        status: as it was written; its conditions show since when the state holds.
        count: how many pods it holds.
        now: aware.
    """
    events = {_state_event(observation, gate, status)}
    if count.overdue:
        limit = format_duration(gate.policy.max_hold)
        note = f"pods are held for longer than {limit}: {status_message(observation, gate)}"
        events.add(GateEvent("HeldTooLong", note, warning=True, dedup_key=note))
    events.update(_bypass_events(gate.policy, now))
    return frozenset(events)


def _bypass_events(policy: Policy, now: datetime) -> Iterator[GateEvent]:
    until = policy.bypass_until
    if until is None:
        return
    stamp, by = f"{until:%Y-%m-%dT%H:%M:%SZ}", policy.bypass_by or "an unknown user"
    if policy.is_bypass_too_long(now):
        note = f"the bypass until {stamp}, set by {by}, does not count: {BYPASS_LIMIT}"
        yield GateEvent("BypassTooLong", note, warning=True, dedup_key=note)
    elif now < until:
        note = (
            f"opened by {by} until {stamp}, so that every pod starts, whatever its ledger says: {policy.bypass_reason}"
        )
        yield GateEvent("Bypassed", note, warning=True, dedup_key=note)
    else:
        note = f"the bypass by {by} ended at {stamp}: verdicts count again; remove spec.bypass"
        yield GateEvent("BypassEnded", note, warning=False, dedup_key=note)


def unreadable_event(error: str) -> frozenset[GateEvent]:
    """Return the Event of a gate whose object cannot be decoded.

    Args:
        error: what is wrong with it.
    """
    note = (
        f"this version of ledgergate cannot read the object ({error}): its last readable state stays in force, and "
        "pods that declare a revision and that no other LedgerGate selects are held; correct it, or update ledgergate"
    )
    return frozenset({GateEvent("Unreadable", note, warning=True, dedup_key=note)})


def _state_event(observation: GateObservation, gate: Gate, status: dict[str, Any]) -> GateEvent:
    since = next(condition["lastTransitionTime"] for condition in status["conditions"] if condition["status"] == "True")
    state, ledger = observation.state, observation.snapshot.ledger
    # The note is part of the key. A healthy ledger's note is constant, since a new head is no news; the note about a
    # fault has every detail, since each new detail is news.
    note = "the ledger can be read" if state is GateState.LIVE else status_message(observation, gate)
    dirty = ledger.dirty if ledger is not None else None
    running = state is GateState.DIRTY and dirty is not None and dirty.state is State.RUNNING
    warning = state is not GateState.LIVE and not running
    return GateEvent(state.value, note, warning, f"{note}\n{since}")
