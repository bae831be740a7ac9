from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.core.versioning import Versioning

names = st.text("0123456789._-vVBab²٣ ", max_size=30)


@pytest.mark.parametrize(
    ("versioning", "same"),
    [
        (Versioning.NAME, ["20250126120000_add"]),
        (Versioning.LEADING_NUMBER, ["7", "007", "7_add_users", "0007-add"]),
        (Versioning.LEADING_NUMBER, ["20250126120000", "20250126120000_add_users"]),
        (Versioning.LEADING_NUMBER, ["add_users"]),
        (
            Versioning.DOTTED,
            ["1.2", "V1_2__add_users", "V1.2__other", "1.2.0", "V01_02", "B1.2__baseline", "V1_2_0_0__x"],
        ),
        (Versioning.DOTTED, ["0", "V0__first", "0.0"]),
        (Versioning.DOTTED, ["R__views"]),
        (Versioning.PREFIX, ["2.10.x-20250126", "2.10.x-20250126_add_users"]),
        (Versioning.PREFIX, ["_add_users"]),
        (Versioning.TIMESTAMP, ["1700000000000-AddUsers", "AddUsers1700000000000", "AddUsers21700000000000"]),
        (Versioning.TIMESTAMP, ["AddUsers"]),
    ],
)
def test_names_of_one_revision_have_one_key(versioning: Versioning, same: list[str]) -> None:
    """These are the name of a file and what the tool records of it."""
    assert len({versioning.key(name) for name in same}) == 1
    assert len({versioning.sort_key(name) for name in same}) == 1


@pytest.mark.parametrize(
    ("versioning", "ordered"),
    [
        (Versioning.NAME, ["10", "9"]),
        (Versioning.LEADING_NUMBER, ["9_z", "10_a"]),
        (Versioning.DOTTED, ["R__views", "V1__a", "V1_1__a", "V1_9__a", "V1_10__a", "V2__a"]),
        (Versioning.PREFIX, ["10_a", "9_z"]),
        (Versioning.TIMESTAMP, ["Zebra1700000000000", "1700000000001-Ant"]),
    ],
)
def test_names_are_sorted_as_by_the_tool(versioning: Versioning, ordered: list[str]) -> None:
    """Numbers are compared by value and part by part; names without a number come first."""
    assert sorted(set(ordered), key=versioning.sort_key) == ordered


@given(st.sampled_from(Versioning), names)
def test_a_key_is_its_own_key(versioning: Versioning, name: str) -> None:
    """A revision may be declared by its key, and every name has a key."""
    key = versioning.key(name)
    assert versioning.key(key) == key
    assert versioning.sort_key(key) == versioning.sort_key(name)
