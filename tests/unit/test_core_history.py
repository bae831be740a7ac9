"""What a status keeps of a ledger is enough to judge by, or is known not to be."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.revision import Revision, declare
from migrations.core.snapshot import Fault, LedgerSnapshot
from migrations.dialects.catalogue import DIALECTS
from tests.policies import policies
from webhook.api.objects import LedgerGate
from webhook.core.gate import Gate, Policy, parse_gate
from webhook.core.history import RecalledLedger, recall_ledger, recall_snapshot
from webhook.core.requirement import Requirement
from webhook.core.status import GateObservation, PreviousStatus, build_status
from webhook.core.verdict import Reason, decide

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
OF_HISTORY = {History.NAMES: "ledgergate", History.EXECUTION: "django", History.NUMBER: "golang-migrate"}
NAMES = [f"{number:04}_m" for number in range(1, 9)]
HEADS = [f"{letter}1f0" for letter in "fbdace"]


def gate(dialect: str, status: dict[str, Any] | None = None, **spec: Any) -> Gate:
    """Return a gate as the API server has it, with this status."""
    whole = {
        "metadata": {"namespace": "ns", "name": "app", "generation": 1},
        "spec": {
            "selector": {},
            "database": {"secretRef": {"name": "pg"}},
            "ledger": {"dialect": dialect},
            **spec,
        },
        "status": status or {},
    }
    return parse_gate(msgspec.json.decode(msgspec.json.encode(whole), type=LedgerGate))


def recorded(snapshot: LedgerSnapshot, dialect: str, *, kept: int = 50, **spec: Any) -> Gate:
    """Return the gate after the controller has written what it knows of the ledger.

    Args:
        kept: how many revisions the status keeps.
    """
    known = gate(dialect, **spec)
    with patch("webhook.core.status.HISTORY", kept):
        status = build_status(GateObservation(snapshot), known, PreviousStatus.from_gate(known), NOW)
    return gate(dialect, {key: value for key, value in status.items() if value is not None}, **spec)


@st.composite
def ledgers(draw: st.DrawFn, dialect: str) -> Ledger:
    """A ledger of some dialect, in which migrations may have failed, with contract migrations and baselines."""
    description = DIALECTS[dialect]
    native = dialect == "ledgergate"
    if description.history is History.NUMBER:
        names = [str(draw(st.integers(0, 9)))]
    elif description.history is History.HEADS:
        known = draw(st.lists(st.sampled_from(HEADS), unique=True))
        heads = known[-draw(st.integers(1, 2)) :]
        return description.build_ledger(Record(name, State.APPLIED) for name in heads).with_former_heads(known)
    else:
        names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    states = st.sampled_from([State.APPLIED] * 4 + [State.FAILED])
    return description.build_ledger(
        Record(
            name,
            draw(states),
            compatible_from=draw(st.none() | st.sampled_from(NAMES)) if native else None,
            baseline=native and draw(st.integers(0, 9)) == 0,
        )
        for name in names
    )


@st.composite
def requirements(draw: st.DrawFn, dialect: str) -> Requirement:
    """What an image of that dialect may expect, in the short or in the long form."""
    if DIALECTS[dialect].history is History.HEADS:
        ancestors = draw(st.none() | st.frozensets(st.sampled_from(HEADS)))
        return Requirement(Revision(draw(st.sampled_from(HEADS))), ancestors=ancestors)
    if DIALECTS[dialect].history is History.NUMBER:
        return Requirement(Revision(str(draw(st.integers(0, 9)))))
    known = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    return Requirement(
        draw(st.sampled_from([Revision(known[0]), declare(sorted(known)), DIALECTS[dialect].declare(known)]))
    )


@pytest.mark.parametrize("dialect", [*OF_HISTORY.values(), "alembic", "dbmate"])
@pytest.mark.parametrize("kept", [50, 3])
@settings(deadline=None, max_examples=150)
@given(data=st.data(), policy=policies, fault=st.none() | st.just(Fault.UNREACHABLE))
def test_a_status_judges_as_its_ledger_does(
    dialect: str, kept: int, data: st.DataObject, policy: Policy, fault: Fault | None
) -> None:
    """The verdict by the status is that by the whole ledger, or left to the controller if the status is cut short."""
    ledger, requirement = data.draw(ledgers(dialect)), data.draw(requirements(dialect))
    snapshot = LedgerSnapshot(ledger, NOW, fault)
    known = recorded(snapshot, dialect, kept=kept)
    subject = Gate("ns", "app", known.selector, "pg", dialect, policy=policy)
    whole = decide(subject, requirement, snapshot, NOW)
    by_status = decide(subject, requirement, recall_snapshot(known), NOW)
    if by_status.reason is Reason.UNDECIDED:
        assert kept == 3
        assert fault is None
        assert not whole.outcome.good or by_status.outcome >= whole.outcome
    elif fault is None or kept == 50:
        assert (by_status.reason, by_status.outcome, by_status.message) == (whole.reason, whole.outcome, whole.message)
    else:
        assert by_status.outcome >= whole.outcome, "a status that is cut short opens nothing"


def applied(names: Iterable[str], **known: Any) -> LedgerSnapshot:
    """Return a snapshot of a ledger in which these are applied."""
    return LedgerSnapshot(Ledger.of(Record(name, State.APPLIED, **known) for name in names), NOW)


LONG = [f"2026{number:010}_m" for number in range(1, 101)]


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (str(Revision(LONG[-1])), Reason.MATCHES),
        (str(declare(LONG)), Reason.MATCHES),
        (str(declare(LONG[:60])), Reason.AHEAD),
        (str(declare([*LONG[:59], "20260000000099_other", *LONG[60:70]])), Reason.INCOMPLETE),
        (LONG[40], Reason.UNDECIDED),
        ("20260000000030_never", Reason.UNDECIDED),
        ("20260000000070_never", Reason.BEHIND),
        ("20270000000000_new", Reason.BEHIND),
    ],
)
def test_the_newest_fifty_of_a_hundred(expected: str, reason: Reason) -> None:
    """Those and everything newer are decided by the status, also in the long form; what is older is not."""
    known = recorded(applied(LONG), "ledgergate")
    assert decide(known, Requirement(Revision.parse(expected)), recall_snapshot(known), NOW).reason is reason


def test_an_old_baseline_is_kept() -> None:
    """What a baseline stands for is known, however many migrations came after it."""
    records = [Record(LONG[0], State.APPLIED, baseline=True), *(Record(name, State.APPLIED) for name in LONG[1:])]
    known = recorded(LedgerSnapshot(Ledger.of(records), NOW), "ledgergate")
    assert len(known.history) == 51
    verdict = decide(known, Requirement(Revision("20250101000000_before")), recall_snapshot(known), NOW)
    assert verdict.reason is Reason.AHEAD


def test_a_status_of_another_source_is_void() -> None:
    """A gate that was pointed at another Secret or table since is not judged by the ledger it had before."""
    known = recorded(applied(NAMES), "ledgergate")
    snapshot = recall_snapshot(known)
    assert (snapshot.fault, snapshot.observed_at) == (None, NOW)
    assert snapshot.ledger is not None
    assert snapshot.ledger.applied == tuple(NAMES)
    status = recorded(applied(NAMES), "ledgergate").reading
    other = gate(
        "ledgergate", {"state": "Live", "applied": 1, "source": status.source}, database={"secretRef": {"name": "x"}}
    )
    assert recall_snapshot(other) == LedgerSnapshot(fault=Fault.PENDING)
    assert recall_snapshot(other, current=False) == LedgerSnapshot(fault=Fault.UNREACHABLE)


def test_no_status_is_no_reading() -> None:
    """A gate without a status is left to the controller; where none leads, its ledger counts as unreachable."""
    assert recall_snapshot(gate("ledgergate")) == LedgerSnapshot(fault=Fault.PENDING)
    assert recall_snapshot(gate("ledgergate"), current=False) == LedgerSnapshot(fault=Fault.UNREACHABLE)


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        ({"state": "Live"}, None),
        ({"state": "Unreachable"}, Fault.UNREACHABLE),
        ({"state": "Misconfigured"}, Fault.UNREACHABLE),
        ({"state": "Dirty"}, Fault.PENDING),
        ({"state": "Unreachable", "fault": "PermissionMissing"}, Fault.PERMISSION),
        ({"state": "Unreachable", "fault": "SomethingNew"}, Fault.UNREACHABLE),
    ],
)
def test_statuses_of_other_versions_are_read(status: dict[str, Any], fault: Fault | None) -> None:
    """Before an upgrade has rewritten it, a status without the newer fields is judged by, as far as it goes."""
    old = {"applied": 2, "history": [{"revision": "a"}, {"revision": "b"}], "observedAt": "no time", **status}
    known = gate("ledgergate", old)
    snapshot = recall_snapshot(known)
    assert snapshot.fault is fault
    assert isinstance(snapshot.ledger, RecalledLedger)
    assert snapshot.ledger.applied == ("a", "b")
    assert snapshot.ledger.can_tell(Revision("a"))
    assert not snapshot.ledger.can_tell(declare(["a"])), "it has no digest"


def test_a_status_that_was_edited_by_hand_is_harmless() -> None:
    """A status that cannot be read as a ledger counts as one of an unreachable database."""
    status = {"state": "Live", "applied": 1, "history": [{"revision": "9" * 5000}]}
    known = gate("dbmate", status)
    assert recall_ledger(known) is None
    assert recall_snapshot(known).fault is Fault.UNREACHABLE
    assert recall_ledger(gate("nosuch", {"applied": 0})) is None
    assert recall_ledger(gate("ledgergate", {"applied": 0})) == RecalledLedger()
