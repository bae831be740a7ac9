"""A gate's status follows from the observation, keeps the times of what has not changed, and conforms to kstatus."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrations.core.ledger import Ledger, Record, State
from migrations.core.revision import declare
from migrations.core.snapshot import ActiveMigration, Fault, LedgerSnapshot
from webhook.core.contract_state import LONGEST_NAME
from webhook.core.gate import Gate, RecordedRevision
from webhook.core.selector import Selector
from webhook.core.status import (
    HISTORY,
    UNSETTLED,
    GateObservation,
    GateState,
    PreviousStatus,
    Problem,
    build_status,
    is_same_status,
)

THEN, NOW = datetime(2026, 1, 26, 12, tzinfo=UTC), datetime(2026, 1, 26, 13, tzinfo=UTC)
A, B, C = "20260101000000_a", "20260102000000_b", "20260103000000_c"
APPLIED = State.APPLIED


def ledger(*names: str) -> Ledger:
    return Ledger.of(Record(name, APPLIED) for name in names)


def gate(**known: Any) -> Gate:
    return Gate("ns", "app", Selector(), "pg", "ledgergate", generation=4, **known)


def written(observation: GateObservation, known: Gate, now: datetime) -> dict[str, Any]:
    """Build the status after the one in the gate's object."""
    return build_status(observation, known, PreviousStatus.from_gate(known), now)


def extent(*names: str) -> dict[str, Any]:
    """Return the count and the digest of what an image with these migrations expects."""
    declared = declare(names)
    return {"count": declared.count, "digest": declared.digest}


def conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["type"]: found for found in status["conditions"]}


LIVE = GateObservation(LedgerSnapshot(ledger(A, B), THEN), held=2, ledger_fingerprint="here")
DIRTY = GateObservation(
    LedgerSnapshot(Ledger.of([Record(A, APPLIED), Record(B, State.FAILED, error="no such role bob")]), THEN)
)
LOST = GateObservation(LedgerSnapshot(ledger(A, B), THEN, Fault.UNREACHABLE))
BROKEN = GateObservation(
    LedgerSnapshot(fault=Fault.UNREAD),
    (Problem("Secret pg does not exist in namespace ns; create it"), Problem("and more")),
)
FOLLOW = "pods follow onUnreachable until then"
PASSING = GateObservation(
    LedgerSnapshot(ledger(A), THEN, Fault.UNREAD), (Problem("Secret pg cannot be read now", transient=True),)
)
REFUSED = GateObservation(LedgerSnapshot(ledger(A), THEN, Fault.AUTHENTICATION))
STRANGE = GateObservation(
    LedgerSnapshot(fault=Fault.LEDGER, detail="public.t is no knex ledger: it has no column batch")
)
HIDDEN = GateObservation(
    LedgerSnapshot(fault=Fault.ROWS_HIDDEN, detail="row-level security of public.knex_migrations (policy own)")
)


def test_a_live_gate() -> None:
    """The status has head, count, history and held pods, and the generation that they are about."""
    status = written(LIVE, gate(), NOW)
    assert status.pop("conditions")
    assert status == {
        "observedGeneration": 4,
        "state": "Live",
        "heldPods": 2,
        "fault": None,
        "migration": None,
        "place": "here",
        "source": gate().source,
        "head": B,
        "applied": 2,
        "observedAt": "2026-01-26T12:00:00Z",
        "history": [
            {"revision": A, "observedAt": "2026-01-26T13:00:00Z", **extent(A)},
            {"revision": B, "observedAt": "2026-01-26T13:00:00Z", **extent(A, B)},
        ],
        "unsettled": None,
    }


@pytest.mark.parametrize(
    ("observation", "state", "true"),
    [
        (LIVE, GateState.LIVE, "Ready"),
        (DIRTY, GateState.DIRTY, "Reconciling"),
        (LOST, GateState.UNREACHABLE, "Reconciling"),
        (GateObservation(LedgerSnapshot(fault=Fault.UNREAD)), GateState.UNREACHABLE, "Reconciling"),
        (BROKEN, GateState.MISCONFIGURED, "Stalled"),
        (PASSING, GateState.UNREACHABLE, "Reconciling"),
        (REFUSED, GateState.MISCONFIGURED, "Stalled"),
        (STRANGE, GateState.MISCONFIGURED, "Stalled"),
        (HIDDEN, GateState.MISCONFIGURED, "Stalled"),
    ],
)
def test_exactly_one_condition_is_true(observation: GateObservation, state: GateState, true: str) -> None:
    """As kstatus requires: Ready is Current, Reconciling is InProgress, Stalled is Failed."""
    found = conditions(written(observation, gate(), NOW))
    assert {kind: held["status"] for kind, held in found.items()} == {
        kind: str(kind == true) for kind in ("Ready", "Reconciling", "Stalled")
    }
    for held in found.values():
        assert held["reason"] == state.value
        assert held["observedGeneration"] == 4
        assert held["message"]


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (LIVE, f"the ledger is at {B}"),
        (GateObservation(LedgerSnapshot(Ledger(), THEN)), "the ledger is empty"),
        (
            GateObservation(LedgerSnapshot(Ledger(), THEN, missing_table="public.knex_migrations")),
            "the ledger is empty: the table public.knex_migrations does not exist",
        ),
        (
            HIDDEN,
            (
                "row-level security of public.knex_migrations (policy own) hides rows of the ledger from the login of "
                f"Secret pg: give its role BYPASSRLS, or disable row level security on the table; {FOLLOW}"
            ),
        ),
        (DIRTY, f"migration {B} is recorded as failed"),
        (LOST, f"the ledger cannot be read now; {FOLLOW}"),
        (PASSING, "Secret pg cannot be read now"),
        (
            REFUSED,
            "the database refuses the login of Secret pg: correct its user name or password; " + FOLLOW,
        ),
        (
            STRANGE,
            (
                f"{STRANGE.snapshot.detail}: correct spec.ledger of this LedgerGate, or the database in Secret pg; "
                f"{FOLLOW}"
            ),
        ),
        (BROKEN, "Secret pg does not exist in namespace ns; create it; and more"),
    ],
)
def test_messages(observation: GateObservation, message: str) -> None:
    """A message contains every problem, and nothing that the database answered."""
    assert conditions(written(observation, gate(), NOW))["Ready"]["message"] == message


def test_transition_times_are_kept_until_the_status_changes() -> None:
    """The time is that of the last change of the condition's status, not of the last write."""
    before = {"Ready": ("True", "2026-01-01T00:00:00Z"), "Reconciling": ("False", "2026-01-02T00:00:00Z")}
    still = conditions(written(LIVE, gate(transitions=before), NOW))
    assert still["Ready"]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert still["Reconciling"]["lastTransitionTime"] == "2026-01-02T00:00:00Z"
    assert still["Stalled"]["lastTransitionTime"] == "2026-01-26T13:00:00Z"
    lost = conditions(written(LOST, gate(transitions=before), NOW))
    assert {held["lastTransitionTime"] for held in lost.values()} == {"2026-01-26T13:00:00Z"}


def test_history_times_are_kept() -> None:
    """A revision keeps the time at which it was first seen; one without a time gets the present one."""
    history = written(
        GateObservation(LedgerSnapshot(ledger(A, B, C), THEN)),
        gate(history={A: RecordedRevision("2026-01-01T00:00:00Z"), B: RecordedRevision()}),
        NOW,
    )["history"]
    assert history == [
        {"revision": A, "observedAt": "2026-01-01T00:00:00Z", **extent(A)},
        {"revision": B, "observedAt": "2026-01-26T13:00:00Z", **extent(A, B)},
        {"revision": C, "observedAt": "2026-01-26T13:00:00Z", **extent(A, B, C)},
    ]


def test_a_second_write_continues_from_the_first() -> None:
    """The second status keeps the times of the first, which the object in the watch may not have yet."""
    known = gate()
    first = written(LIVE, known, THEN)
    held = GateObservation(LIVE.snapshot, held=5, ledger_fingerprint="here")
    second = build_status(held, known, PreviousStatus.from_gate(known).updated(first), NOW)
    assert is_same_status(second, first | {"heldPods": 5})
    lost = build_status(LOST, known, PreviousStatus.from_gate(known).updated(first), NOW)
    assert lost["history"] == first["history"]
    assert conditions(lost)["Stalled"]["lastTransitionTime"] == "2026-01-26T12:00:00Z"
    assert conditions(lost)["Ready"]["lastTransitionTime"] == "2026-01-26T13:00:00Z"


def test_a_running_migration_is_written_and_removed() -> None:
    """Every field is written, so that a merge patch keeps nothing of the previous run."""
    run = ActiveMigration("migrate-7d9", B, THEN)
    status = written(GateObservation(LedgerSnapshot(ledger(A), THEN, run=run)), gate(), NOW)
    assert status["migration"] == {"revision": B, "holder": "migrate-7d9", "since": "2026-01-26T12:00:00Z"}
    unknown = written(GateObservation(LedgerSnapshot(ledger(A), THEN, run=ActiveMigration("psql"))), gate(), NOW)
    assert unknown["migration"] == {"revision": None, "holder": "psql", "since": None}
    assert written(LIVE, gate(), NOW)["migration"] is None


def test_the_strictest_contract_migration_is_kept() -> None:
    """It stays in the history, even if more migrations than the history has room for came after it."""
    names = [f"{number:014}_m" for number in range(HISTORY + 7)]
    records = [Record(names[0], APPLIED), Record(names[1], APPLIED, compatible_from=names[1])]
    records += [Record(name, APPLIED) for name in names[2:]]
    history = written(GateObservation(LedgerSnapshot(Ledger.of(records), THEN)), gate(), NOW)["history"]
    assert history[0] == {
        "revision": names[1],
        "observedAt": "2026-01-26T13:00:00Z",
        "compatibleFrom": names[1],
        **extent(*names[:2]),
    }
    assert [entry["revision"] for entry in history[1:]] == names[-HISTORY:]


def test_history_is_bounded_and_keeps_the_newest() -> None:
    """The status of a ledger with thousands of revisions fits into an object."""
    names = [f"{number:014}_m" for number in range(HISTORY + 7)]
    status = written(GateObservation(LedgerSnapshot(ledger(*names), THEN)), gate(), NOW)
    assert [entry["revision"] for entry in status["history"]] == names[-HISTORY:]
    assert (status["applied"], status["head"]) == (HISTORY + 7, names[-1])


def test_a_fault_keeps_the_last_snapshot() -> None:
    """While the ledger cannot be read, the status still has the last snapshot and its time."""
    status = written(LOST, gate(), NOW)
    assert (status["head"], status["applied"], status["observedAt"]) == (B, 2, "2026-01-26T12:00:00Z")


def test_a_ledger_restored_from_the_status_is_not_written_back() -> None:
    """After a restart in an outage only the status' own history is known: the newest revisions, not their number."""
    names = [f"{number:014}_m" for number in range(HISTORY)]
    status = written(
        GateObservation(LedgerSnapshot(ledger(*names), None, Fault.UNREACHABLE)),
        gate(history=dict.fromkeys(names, RecordedRevision("t"))),
        NOW,
    )
    assert not {"head", "applied", "place", "source", "history", "unsettled", "observedAt"} & status.keys()


def test_another_database_starts_from_nothing() -> None:
    """What the status says of another ledger is removed; after a restart it would count as the history of this one."""
    status = written(
        GateObservation(LedgerSnapshot(fault=Fault.UNREACHABLE)), gate(history={A: RecordedRevision("t")}), NOW
    )
    gone = {"head", "applied", "place", "history", "unsettled", "observedAt"}
    assert {key: status[key] for key in gone} == dict.fromkeys(gone)


def test_another_observation_is_no_change() -> None:
    """A status that differs only in the time of the observation is not written; with any other difference it is."""
    before = {"Ready": ("True", "t"), "Reconciling": ("False", "t"), "Stalled": ("False", "t")}
    known = gate(transitions=before, history={A: RecordedRevision("t"), B: RecordedRevision("t")})
    one = written(LIVE, known, NOW)
    later = GateObservation(LedgerSnapshot(ledger(A, B), NOW), held=2, ledger_fingerprint="here")
    assert is_same_status(one, written(later, known, NOW + timedelta(hours=1)))
    assert not is_same_status(one, written(GateObservation(later.snapshot, held=3), known, NOW))
    assert not is_same_status(one, {})


def test_what_is_not_settled_is_written_with_its_place() -> None:
    """The first few migrations that run or have failed, each with the number of those applied before it."""
    records = [Record(A, APPLIED), Record(B, State.FAILED), Record(C, APPLIED)]
    records += [Record(f"2027010100000{number}_x", State.RUNNING) for number in range(9)]
    unsettled = written(GateObservation(LedgerSnapshot(Ledger.of(records), THEN)), gate(), NOW)["unsettled"]
    assert unsettled[0] == {"revision": B, "state": "failed", "after": 1}
    assert unsettled[1] == {"revision": "20270101000000_x", "state": "running", "after": 2}
    assert len(unsettled) == UNSETTLED


def test_a_name_that_no_image_can_declare_is_cut() -> None:
    """Whatever a ledger holds, the status stays small, and a name that was cut matches no declared one."""
    names = [f"{number:04}_{'x' * 100_000}" for number in range(HISTORY)]
    status = written(GateObservation(LedgerSnapshot(ledger(*names), THEN)), gate(), NOW)
    assert len(str(status)) < 100_000
    assert {len(entry["revision"]) for entry in status["history"]} == {LONGEST_NAME + 1}


@pytest.mark.parametrize(
    ("observation", "fault"),
    [(LIVE, None), (DIRTY, None), (LOST, "Unreachable"), (BROKEN, "Unreachable"), (REFUSED, "AuthenticationFailed")],
)
def test_the_fault_is_written(observation: GateObservation, fault: str | None) -> None:
    """Admission follows `onUnreachable` while there is one; a null removes it."""
    assert written(observation, gate(), NOW)["fault"] == fault
