"""What `wait` reports as missing."""

from __future__ import annotations

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.revision import Revision, declare
from migrations.runner.wait import describe_missing

NAMES = [f"r{number}" for number in range(9)]


def test_what_is_missing_is_named() -> None:
    """The oldest five by name and the number of the rest; none that is newer than the expected revision."""
    ledger = Ledger.of([Record("r0", State.APPLIED)])
    assert describe_missing(Revision("r2"), ledger, NAMES) == "missing r1, r2; the head is r0"
    assert describe_missing(Revision("r8"), ledger, NAMES).startswith("missing r1, r2, r3, r4, r5 and 3 more;")
    assert describe_missing(Revision("r2"), Ledger(), ()) == "r2 is not applied; the head is none"


def test_a_gap_without_files_is_reported() -> None:
    """COUNT and DIGEST alone show that something is missing, but not what."""
    ledger = Ledger.of([Record("r1", State.APPLIED)])
    assert describe_missing(declare(["r0", "r1"]), ledger, ()).startswith("r1 is applied, but not everything")


def test_a_failed_or_running_migration_is_reported() -> None:
    """A failed migration with its error, a running one with the pod that began it."""
    failed = Ledger.of([Record("r0", State.FAILED, error="no such table")])
    running = Ledger.of([Record("r0", State.RUNNING, applied_by="pod-1")])
    assert "r0 failed: no such table" in describe_missing(Revision("r0"), failed, NAMES)
    assert "r0 was begun by pod-1" in describe_missing(Revision("r0"), running, NAMES)


def test_what_is_below_a_head_is_not_known() -> None:
    """Of a tool that records heads only the head can be missing; details that it does not record are left out."""
    heads = Ledger.of([Record("r1", State.APPLIED)], History.HEADS)
    assert describe_missing(Revision("r2"), heads, NAMES) == "r2 is not applied; the head is r1"
    failed = Ledger.of([Record("r0", State.FAILED)])
    assert describe_missing(Revision("r0"), failed, ()) == "r0 is not applied; r0 failed; the head is none"
    running = Ledger.of([Record("r0", State.RUNNING)])
    assert "r0 was begun and has not ended" in describe_missing(Revision("r0"), running, ())
