"""Names of sessions and descriptions of lock holders."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrations.postgres.advisory_lock import LockHolder, application_name

REVISION = "20250126120000_add_user_preferences_table"


def test_pod_and_revision_within_63_bytes() -> None:
    """A name that fits is unchanged; of a longer pod the end is kept, of a longer revision the beginning."""
    assert application_name("pod-1") == "ledgergate pod-1"
    assert application_name("pod-1", REVISION) == f"ledgergate pod-1 {REVISION}"
    long = application_name("billing-migrations-controller-7d9f6c5b4-x2x9q", REVISION)
    assert long == "ledgergate ntroller-7d9f6c5b4-x2x9q 20250126120000_add_user_pre"


@given(pod=st.text(min_size=1, max_size=80), name=st.text(min_size=1, max_size=80))
def test_it_always_has_three_words_and_the_time_of_the_revision(pod: str, name: str) -> None:
    """For any names: ASCII, at most 63 bytes, three words, and the timestamp of the revision."""
    shown = application_name(pod, f"20250126120000_{name}")
    assert len(shown.encode("ascii")) <= 63
    program, _, revision = shown.split(" ")
    assert program == "ledgergate"
    assert revision.startswith("20250126120000_")


def test_a_holder_is_described_by_all_that_is_known() -> None:
    """Pod, duration and running revision, as far as they are known."""
    assert str(LockHolder(7, None)) == "another session (backend 7)"
    assert str(LockHolder(7, "psql", None)) == "psql (backend 7)"
    held = LockHolder(7, "ledgergate pod-1 x", 42.4, "pod-1", "x")
    assert str(held) == "pod-1 (backend 7) for 42 s, running x"
