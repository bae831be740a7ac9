from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.naming import Naming

names = st.text("0123456789._-vVBab²٣ ", max_size=30)


@pytest.mark.parametrize(
    ("naming", "same"),
    [
        (Naming.NAME, ["20250126120000_add"]),
        (Naming.VERSION, ["7", "007", "7_add_users", "0007-add"]),
        (Naming.VERSION, ["20250126120000", "20250126120000_add_users"]),
        (Naming.VERSION, ["add_users"]),
        (Naming.DOTTED, ["1.2", "V1_2__add_users", "V1.2__other", "1.2.0", "V01_02", "B1.2__baseline", "V1_2_0_0__x"]),
        (Naming.DOTTED, ["0", "V0__first", "0.0"]),
        (Naming.DOTTED, ["R__views"]),
        (Naming.PREFIX, ["2.10.x-20250126", "2.10.x-20250126_add_users"]),
        (Naming.PREFIX, ["_add_users"]),
        (Naming.TIMESTAMP, ["1700000000000-AddUsers", "AddUsers1700000000000", "AddUsers21700000000000"]),
        (Naming.TIMESTAMP, ["AddUsers"]),
    ],
)
def test_what_is_one_revision_has_one_key(naming: Naming, same: list[str]) -> None:
    """A file's name and what the tool records of it."""
    assert len({naming.key(name) for name in same}) == 1
    assert len({naming.sorting(name) for name in same}) == 1


@pytest.mark.parametrize(
    ("naming", "ordered"),
    [
        (Naming.NAME, ["10", "9"]),
        (Naming.VERSION, ["9_z", "10_a"]),
        (Naming.DOTTED, ["R__views", "V1__a", "V1_1__a", "V1_9__a", "V1_10__a", "V2__a"]),
        (Naming.PREFIX, ["10_a", "9_z"]),
        (Naming.TIMESTAMP, ["Zebra1700000000000", "1700000000001-Ant"]),
    ],
)
def test_the_order_is_the_tools(naming: Naming, ordered: list[str]) -> None:
    """Numbers by their value, parts one by one; what has no number comes first."""
    assert sorted(set(ordered), key=naming.sorting) == ordered


@given(st.sampled_from(Naming), names)
def test_a_key_is_its_own_key(naming: Naming, name: str) -> None:
    """So a ledger's own identities, declared as they are, find themselves; and anything at all can be asked."""
    key = naming.key(name)
    assert naming.key(key) == key
    assert naming.sorting(key) == naming.sorting(name)
