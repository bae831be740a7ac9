"""The frames between the controller and its reader processes: what goes in comes out, and nothing too large does."""

from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.core.ledger import History, Ledger, Record, State
from migrations.core.snapshot import ActiveMigration, Fault
from migrations.core.versioning import Versioning
from migrations.postgres.address import Address
from migrations.reader import wire

URLS = (
    "postgresql://u:p@h/app",
    "postgresql://u:p@a:1,b:2/app?target_session_attrs=primary&load_balance_hosts=random",
    "postgresql://u:p@h/app?sslmode=verify-full&sslrootcert=system&options=-c%20search_path%3Dx",
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
RECORDS = st.builds(
    Record, TEXT, st.sampled_from(State), compatible_from=st.none() | TEXT, baseline=st.booleans(), error=st.none()
)


@pytest.mark.parametrize("url", URLS)
def test_an_address_arrives_as_it_was(url: str) -> None:
    """Every part of it, the password too: it travels by no other way."""
    address = Address.from_url(url)
    names = (wire.LedgerName("knex", "s", "t"), wire.LedgerName("auto"))
    visit = wire.Visit(7, "ns", address, names, "name", follow=True, urgent=True)
    found = wire.decode_request(wire.encode_request(visit)[wire.HEADER_BYTES :])
    assert isinstance(found, wire.Visit)
    assert Address(*found.plan) == address
    assert found == visit


@given(st.lists(RECORDS, max_size=20), st.sampled_from(History), st.sampled_from(Versioning))
def test_a_ledger_arrives_with_what_a_verdict_needs(
    records: list[Record], history: History, versioning: Versioning
) -> None:
    """Revisions, states, barriers and baselines, in their order."""
    ledger = Ledger.of(records, history, versioning)
    reading = wire.Reading(1, 0, 0.1, wire.to_entries(ledger), history, versioning, standby=True)
    found = wire.decode_answer(wire.encode_answer(reading)[wire.HEADER_BYTES :])
    assert isinstance(found, wire.Reading)
    assert wire.to_ledger(found) == ledger


def test_a_frame_that_is_too_large_is_neither_sent_nor_read() -> None:
    """The limit holds on both sides."""
    entries = tuple(wire.Entry("x" * 500 + str(n), State.APPLIED) for n in range(10_000))
    reading = wire.Reading(1, 0, 0.1, entries, History.NAMES, Versioning.NAME, standby=False)
    with pytest.raises(wire.FrameTooLarge):
        wire.encode_answer(reading)
    with pytest.raises(wire.FrameTooLarge):
        wire.frame_length(b"\xff\xff\xff\xff", wire.MAX_ANSWER_BYTES)


@given(st.binary(max_size=200))
def test_what_is_no_answer_is_a_decode_error(body: bytes) -> None:
    """Whatever bytes a compromised worker sends, decoding raises one kind of error or returns an answer."""
    with suppress(msgspec.DecodeError):
        wire.decode_answer(body)


def test_texts_are_cut() -> None:
    """A server's message may be of any length, and hold what cannot be encoded."""
    assert len(wire.cut("x" * 10**6)) == wire.MAX_TEXT
    wire.encode_answer(wire.FaultFound(1, None, Fault.LEDGER, wire.cut("\ud800"), ""))
    run = wire.to_run(ActiveMigration("h" * 5000, None, datetime(2026, 1, 1, tzinfo=UTC)))
    assert run is not None
    assert len(run.holder) == wire.MAX_TEXT
    assert wire.to_run(None) is None


@pytest.mark.parametrize("since", [1e300, -1e300, float("inf"), float("nan"), 2.0**62])
def test_a_time_that_is_none_is_left_out(since: float) -> None:
    """An impossible time of a run is left out, and its holder is known all the same."""
    assert wire.to_active(wire.Run("pod-1", "a", since)) == ActiveMigration("pod-1", "a", None)
    assert wire.to_active(wire.Run("pod-1", None, 0.0)) == ActiveMigration(
        "pod-1", None, datetime(1970, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize("place", [-1, -(2**40)])
def test_a_place_counts_from_the_start(place: int) -> None:
    """A negative place is refused, not taken for another ledger's."""
    for answer in (wire.Migrating(1, place, None), wire.FaultFound(1, place, Fault.UNREACHABLE, "", "")):
        with pytest.raises(msgspec.DecodeError):
            wire.decode_answer(wire.encode_answer(answer)[wire.HEADER_BYTES :])
