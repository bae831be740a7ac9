"""The boundary of another tool's contract migration outlives its entry in the LedgerGate, as the column does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.revision import Revision
from migrations.core.snapshot import LedgerSnapshot
from migrations.dialects.catalogue import DIALECTS
from webhook.api.objects import LedgerGate
from webhook.core.gate import Gate, parse_gate
from webhook.core.history import recall_ledger, recall_snapshot
from webhook.core.requirement import Requirement
from webhook.core.status import GateObservation, PreviousStatus, build_status
from webhook.core.verdict import Reason, decide

NOW = datetime(2026, 1, 26, 12, tzinfo=UTC)
A, B, C, D = ("20260101_a", "20260102_b", "20260103_c", "20260104_d")
ENTRY = {"revision": C, "compatibleFrom": B}
RUNNING = {"revision": C, "compatibleFrom": B, "pod": "contract", "uid": "u", "since": "2026-01-26T11:00:00Z"}


def parsed(status: dict[str, Any] | None = None, *, dialect: str = "knex", **spec: Any) -> Gate:
    """Return a gate as the API server has it."""
    whole = {
        "metadata": {"namespace": "ns", "name": "app", "generation": 1},
        "spec": {"selector": {}, "database": {"secretRef": {"name": "pg"}}, "ledger": {"dialect": dialect}, **spec},
        "status": status or {},
    }
    return parse_gate(msgspec.json.decode(msgspec.json.encode(whole), type=LedgerGate))


def ledger(*names: str, dialect: str = "knex") -> Ledger:
    """Return a ledger that has these."""
    return DIALECTS[dialect].build_ledger(Record(name, State.APPLIED) for name in names)


def after(gate: Gate, now: Ledger) -> dict[str, Any]:
    """Return the status that the controller writes of a ledger."""
    status = build_status(GateObservation(LedgerSnapshot(now, NOW)), gate, PreviousStatus.from_gate(gate), NOW)
    return {name: value for name, value in status.items() if value is not None}


def reasons(gate: Gate, now: Ledger, expected: str) -> set[Reason]:
    """Return what the controller, which reads the ledger, and admission, which reads the status, say of a pod."""
    required = Requirement(Revision(expected))
    snapshots = (LedgerSnapshot(now, NOW), recall_snapshot(gate))
    return {decide(gate, required, snapshot, NOW).reason for snapshot in snapshots}


def test_the_boundary_outlives_its_entry() -> None:
    """A helm rollback takes the entry out; pods of an image older than it are refused before and after."""
    applied = ledger(A, B, C)
    status = after(parsed(contracts=[ENTRY]), applied)
    for gate in (parsed(status, contracts=[ENTRY]), parsed(status), parsed(after(parsed(status), applied))):
        assert reasons(gate, applied, A) == {Reason.INCOMPATIBLE}
        assert reasons(gate, applied, B) == {Reason.AHEAD}


def test_it_ends_with_the_migration() -> None:
    """Once the tool has undone it, older images can run."""
    status = after(parsed(contracts=[ENTRY]), ledger(A, B, C))
    undone = ledger(A, B)
    assert reasons(parsed(after(parsed(status), undone)), undone, A) == {Reason.AHEAD}


def test_nothing_is_remembered_of_a_migration_that_the_ledger_lacks() -> None:
    """The entry is there before the migration is applied."""
    status = after(parsed(contracts=[ENTRY]), ledger(A, B))
    assert all("compatibleFrom" not in entry for entry in status["history"])


def test_an_entry_counts_before_what_is_remembered() -> None:
    """An entry corrects a wrong boundary that is remembered, and the correction stays when the entry is removed."""
    applied = ledger(A, B, C)
    status = after(parsed(contracts=[ENTRY]), applied)
    corrected = parsed(status, contracts=[{"revision": C, "compatibleFrom": A}])
    assert reasons(corrected, applied, A) == {Reason.AHEAD}
    assert reasons(parsed(after(corrected, applied)), applied, A) == {Reason.AHEAD}


def test_what_a_migrator_brought_is_remembered() -> None:
    """A contract that only the migrator's pod has declared, never the LedgerGate, is remembered too."""
    applied = ledger(A, B, C)
    status = after(parsed({"contracting": RUNNING}), applied)
    assert reasons(parsed(status), applied, A) == {Reason.INCOMPATIBLE}
    assert reasons(parsed(status), applied, B) == {Reason.AHEAD}


def test_a_status_that_the_watch_has_not_brought_yet_counts() -> None:
    """The next status is built on the one that was written last, even if the watch still shows an older one."""
    gate, applied = parsed(contracts=[ENTRY]), ledger(A, B, C)
    written = after(gate, applied)
    previous = PreviousStatus.from_gate(parsed()).updated(written)
    status = build_status(GateObservation(LedgerSnapshot(applied, NOW)), parsed(), previous, NOW)
    assert [entry.get("compatibleFrom") for entry in status["history"]] == [None, None, B]


def test_it_is_kept_however_old_it_is() -> None:
    """A boundary is kept although the status has no room for all migrations."""
    with patch("webhook.core.status.HISTORY", 1):
        status = after(parsed(contracts=[ENTRY]), ledger(A, B, C))
        applied = ledger(A, B, C, D)
        status = after(parsed(status), applied)
    gate = parsed(status)
    assert [entry["revision"] for entry in status["history"]] == [C, D]
    recalled = recall_ledger(gate)
    assert recalled is not None
    assert recalled.contains(C)
    assert decide(gate, Requirement(Revision(A)), LedgerSnapshot(applied, NOW), NOW).reason is Reason.INCOMPATIBLE


@pytest.mark.parametrize("dialect", sorted(name for name, each in DIALECTS.items() if each.history is History.HEADS))
def test_names_without_an_order_are_no_boundary_by_their_letters(dialect: str) -> None:
    """The heads of Alembic do not sort: the order in which they were seen decides, as for an entry of the spec."""
    names = ("f1a0c0000001", "b2a0c0000002", "a3a0c0000003")
    now = DIALECTS[dialect].build_ledger([Record(names[2], State.APPLIED)]).with_former_heads(names)
    spec: dict[str, Any] = {"dialect": dialect, "contracts": [{"revision": names[2], "compatibleFrom": names[1]}]}
    status = after(parsed(**spec), now)
    for gate in (parsed(status, **spec), parsed(status, dialect=dialect)):
        assert reasons(gate, now, names[0]) == {Reason.INCOMPATIBLE}
        assert Reason.INCOMPATIBLE not in reasons(gate, now, names[1])


def test_the_native_ledger_goes_by_its_own_records() -> None:
    """An entry of the spec is not written into its history: the migration's file says what it breaks."""
    native = DIALECTS["ledgergate"].build_ledger(
        [Record(A, State.APPLIED), Record(B, State.APPLIED), Record(C, State.APPLIED, compatible_from=B)]
    )
    gate = parsed(dialect="ledgergate", contracts=[{"revision": B, "compatibleFrom": B}])
    status = after(gate, native)
    assert [entry.get("compatibleFrom") for entry in status["history"]] == [None, None, B]
    assert parsed(status, dialect="ledgergate").former_contracts == ()
