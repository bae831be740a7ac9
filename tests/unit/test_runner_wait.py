from __future__ import annotations

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.revision import Revision, declare
from migrations.runner.wait import describe_missing

NAMES = [f"r{number}" for number in range(9)]


def test_what_is_missing_is_named() -> None:
    """The oldest five by name and the rest by number; never what is newer than what is waited for."""
    ledger = Ledger.of([Record("r0", State.APPLIED)])
    assert describe_missing(Revision("r2"), ledger, NAMES) == "missing r1, r2; the head is r0"
    assert describe_missing(Revision("r8"), ledger, NAMES).startswith("missing r1, r2, r3, r4, r5 and 3 more;")
    assert describe_missing(Revision("r2"), Ledger(), ()) == "r2 is not applied; the head is none"


def test_a_gap_without_files_is_told() -> None:
    """Who only knows COUNT and DIGEST cannot name what is missing, but knows that something is."""
    ledger = Ledger.of([Record("r1", State.APPLIED)])
    assert describe_missing(declare(["r0", "r1"]), ledger, ()).startswith("r1 is applied, but not everything")


def test_who_failed_and_who_is_at_it_is_told() -> None:
    """A failed migration with its error, a running one with who began it."""
    failed = Ledger.of([Record("r0", State.FAILED, error="no such table")])
    running = Ledger.of([Record("r0", State.RUNNING, applied_by="pod-1")])
    assert "r0 failed: no such table" in describe_missing(Revision("r0"), failed, NAMES)
    assert "r0 was begun by pod-1" in describe_missing(Revision("r0"), running, NAMES)


def test_what_is_below_a_head_is_not_known() -> None:
    """Of a tool that records heads alone only the head is missing; and what no tool tells is left out."""
    heads = Ledger.of([Record("r1", State.APPLIED)], History.HEADS)
    assert describe_missing(Revision("r2"), heads, NAMES) == "r2 is not applied; the head is r1"
    failed = Ledger.of([Record("r0", State.FAILED)])
    assert describe_missing(Revision("r0"), failed, ()) == "r0 is not applied; r0 failed; the head is none"
    running = Ledger.of([Record("r0", State.RUNNING)])
    assert "r0 was begun and has not ended" in describe_missing(Revision("r0"), running, ())
