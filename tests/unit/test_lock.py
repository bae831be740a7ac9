"""How a session shows what it does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrations.postgres.advisory_lock import LockHolder, application_name, lock_key

REVISION = "20250126120000_add_user_preferences_table"


def test_pod_and_revision_within_63_bytes() -> None:
    """What fits is shown as it is; of a longer pod the end stays, of a longer revision the beginning."""
    assert application_name("pod-1") == "ledgergate pod-1"
    assert application_name("pod-1", REVISION) == f"ledgergate pod-1 {REVISION}"
    long = application_name("billing-migrations-controller-7d9f6c5b4-x2x9q", REVISION)
    assert long == "ledgergate ntroller-7d9f6c5b4-x2x9q 20250126120000_add_user_pre"


@given(pod=st.text(min_size=1, max_size=80), name=st.text(min_size=1, max_size=80))
def test_it_always_has_three_words_and_the_time_of_the_revision(pod: str, name: str) -> None:
    """Whatever the names are: ASCII, at most 63 bytes, three words, the revision's digits among them."""
    shown = application_name(pod, f"20250126120000_{name}")
    assert len(shown.encode("ascii")) <= 63
    program, _, revision = shown.split(" ")
    assert program == "ledgergate"
    assert revision.startswith("20250126120000_")


def test_a_holder_is_told_with_all_that_is_known() -> None:
    """Pod, since when, and what runs; or whatever there is."""
    assert str(LockHolder(7, None)) == "another session (backend 7)"
    assert str(LockHolder(7, "psql", None)) == "psql (backend 7)"
    held = LockHolder(7, "ledgergate pod-1 x", 42.4, "pod-1", "x")
    assert str(held) == "pod-1 (backend 7) for 42 s, running x"


def test_the_key_of_the_lock_is_stable() -> None:
    """Runners of different versions must mean the same lock: this number is forever; another table has another."""
    assert lock_key('"public"."ledgergate_migrations"') == -5394254515006578079
    assert lock_key('"public"."other"') != lock_key('"public"."ledgergate_migrations"')


@given(st.text())
def test_a_lock_key_fits_the_function_that_takes_it(relation: str) -> None:
    """`pg_try_advisory_lock` takes a signed bigint."""
    assert -(2**63) <= lock_key(relation) < 2**63
