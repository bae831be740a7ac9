"""A gate's status follows from what is known, keeps what has not changed, and says what kstatus wants to hear."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrations.ledger import Ledger, Record, State
from migrations.reading import Fault, Reading
from webhook.gate import Gate, Sighting
from webhook.selector import Selector
from webhook.status import HISTORY, GateState, Standing, describe, same

THEN, NOW = datetime(2026, 1, 26, 12, tzinfo=UTC), datetime(2026, 1, 26, 13, tzinfo=UTC)
A, B, C = "20260101000000_a", "20260102000000_b", "20260103000000_c"
APPLIED = State.APPLIED


def ledger(*names: str) -> Ledger:
    return Ledger.of(Record(name, APPLIED) for name in names)


def gate(**known: Any) -> Gate:
    return Gate("ns", "app", Selector(), "pg", "ledgergate", generation=4, **known)


def conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["type"]: found for found in status["conditions"]}


LIVE = Standing(Reading(ledger(A, B), THEN), held=2)
DIRTY = Standing(Reading(Ledger.of([Record(A, APPLIED), Record(B, State.FAILED, error="no such role bob")]), THEN))
LOST = Standing(Reading(ledger(A, B), THEN, Fault.UNREACHABLE))
BROKEN = Standing(Reading(fault=Fault.ADDRESS), ("Secret pg does not exist in namespace ns; create it", "and more"))


def test_a_live_gate() -> None:
    """Head, count, history and held pods are told, with the generation that they are about."""
    status = describe(LIVE, gate(), NOW)
    assert status.pop("conditions")
    assert status == {
        "observedGeneration": 4,
        "state": "Live",
        "heldPods": 2,
        "head": B,
        "applied": 2,
        "observedAt": "2026-01-26T12:00:00Z",
        "history": [
            {"revision": A, "observedAt": "2026-01-26T13:00:00Z"},
            {"revision": B, "observedAt": "2026-01-26T13:00:00Z"},
        ],
    }


@pytest.mark.parametrize(
    ("standing", "state", "true"),
    [
        (LIVE, GateState.LIVE, "Ready"),
        (DIRTY, GateState.DIRTY, "Reconciling"),
        (LOST, GateState.UNREACHABLE, "Reconciling"),
        (Standing(Reading(fault=Fault.UNREAD)), GateState.UNREACHABLE, "Reconciling"),
        (BROKEN, GateState.MISCONFIGURED, "Stalled"),
    ],
)
def test_exactly_one_condition_is_true(standing: Standing, state: GateState, true: str) -> None:
    """Kstatus: Current is Ready, InProgress is Reconciling, Failed is Stalled, and never two of them."""
    found = conditions(describe(standing, gate(), NOW))
    assert {kind: held["status"] for kind, held in found.items()} == {
        kind: str(kind == true) for kind in ("Ready", "Reconciling", "Stalled")
    }
    for held in found.values():
        assert held["reason"] == state.value
        assert held["observedGeneration"] == 4
        assert held["message"]


@pytest.mark.parametrize(
    ("standing", "message"),
    [
        (LIVE, f"the ledger is at {B}"),
        (Standing(Reading(Ledger(), THEN)), "the ledger is empty"),
        (DIRTY, f"migration {B} is recorded as failed"),
        (LOST, "the ledger cannot be read (Unreachable); pods follow onUnreachable until it can"),
        (BROKEN, "Secret pg does not exist in namespace ns; create it; and more"),
    ],
)
def test_messages(standing: Standing, message: str) -> None:
    """Every problem is told; nothing of what the database said."""
    assert conditions(describe(standing, gate(), NOW))["Ready"]["message"] == message


def test_transition_times_are_kept_until_the_status_changes() -> None:
    """A condition's time says since when it holds, not when it was last written."""
    before = {"Ready": ("True", "2026-01-01T00:00:00Z"), "Reconciling": ("False", "2026-01-02T00:00:00Z")}
    still = conditions(describe(LIVE, gate(transitions=before), NOW))
    assert still["Ready"]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert still["Reconciling"]["lastTransitionTime"] == "2026-01-02T00:00:00Z"
    assert still["Stalled"]["lastTransitionTime"] == "2026-01-26T13:00:00Z"
    lost = conditions(describe(LOST, gate(transitions=before), NOW))
    assert {held["lastTransitionTime"] for held in lost.values()} == {"2026-01-26T13:00:00Z"}


def test_history_times_are_kept() -> None:
    """A revision's time is when it was first seen; one without a time gets one."""
    history = describe(
        Standing(Reading(ledger(A, B, C), THEN)),
        gate(history={A: Sighting("2026-01-01T00:00:00Z"), B: Sighting()}),
        NOW,
    )["history"]
    assert history == [
        {"revision": A, "observedAt": "2026-01-01T00:00:00Z"},
        {"revision": B, "observedAt": "2026-01-26T13:00:00Z"},
        {"revision": C, "observedAt": "2026-01-26T13:00:00Z"},
    ]


def test_history_is_bounded_and_keeps_the_newest() -> None:
    """A ledger of thousands fits into an object."""
    names = [f"{number:014}_m" for number in range(HISTORY + 7)]
    status = describe(Standing(Reading(ledger(*names), THEN)), gate(), NOW)
    assert [entry["revision"] for entry in status["history"]] == names[-HISTORY:]
    assert (status["applied"], status["head"]) == (HISTORY + 7, names[-1])


def test_a_fault_leaves_what_was_last_read() -> None:
    """While the ledger cannot be read, status still says what it was and when."""
    status = describe(LOST, gate(), NOW)
    assert (status["head"], status["applied"], status["observedAt"]) == (B, 2, "2026-01-26T12:00:00Z")


def test_what_was_only_remembered_is_not_written_back() -> None:
    """After a restart in an outage only this status' own history is known: the newest revisions, not their number."""
    names = [f"{number:014}_m" for number in range(HISTORY)]
    status = describe(
        Standing(Reading(ledger(*names), None, Fault.UNREACHABLE)),
        gate(history=dict.fromkeys(names, Sighting("t"))),
        NOW,
    )
    assert not {"head", "applied", "history", "observedAt"} & status.keys()


def test_another_database_starts_from_nothing() -> None:
    """Where nothing is known, what is said of another ledger goes, else a restart would take its history for ours."""
    status = describe(Standing(Reading(fault=Fault.UNREACHABLE)), gate(history={A: Sighting("t")}), NOW)
    gone = {"head", "applied", "history", "observedAt"}
    assert {key: status[key] for key in gone} == dict.fromkeys(gone)


def test_another_look_is_no_change() -> None:
    """Only the time of the look differs: nothing to write; anything else is."""
    before = {"Ready": ("True", "t"), "Reconciling": ("False", "t"), "Stalled": ("False", "t")}
    known = gate(transitions=before, history={A: Sighting("t"), B: Sighting("t")})
    one = describe(LIVE, known, NOW)
    later = Standing(Reading(ledger(A, B), NOW), held=2)
    assert same(one, describe(later, known, NOW + timedelta(hours=1)))
    assert not same(one, describe(Standing(later.reading, held=3), known, NOW))
    assert not same(one, {})
