"""What an image needs in spite of its contract migrations, and how those are written in a label."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.core.contract import (
    MAX_CONTRACTS,
    MAX_CONTRACTS_TEXT,
    Contract,
    ContractError,
    format_contracts,
    needed,
    newest_contracts,
    parse_contracts,
)
from migrations.core.migration import Migration, SectionBody

words = st.text("abcz019_-.é", min_size=1, max_size=20)
contracts = st.lists(st.builds(Contract, words, words), max_size=MAX_CONTRACTS)


def migration(name: str, compatible_from: str | None = None) -> Migration:
    return Migration(name, Path(name), "", SectionBody(""), compatible_from=compatible_from)


@st.composite
def directories(draw: st.DrawFn) -> list[Migration]:
    """Migrations of which each contract is compatible from itself or an older one."""
    names = [f"2025010100000{number}_m" for number in range(draw(st.integers(1, 8)))]
    return [migration(name, draw(st.none() | st.sampled_from(names[: index + 1]))) for index, name in enumerate(names)]


@given(directories())
def test_an_image_runs_with_every_contract_that_it_does_not_need(directory: list[Migration]) -> None:
    """What is not needed are contracts, none of which makes the image incompatible; one fewer would break this rule."""
    kept = needed(directory)
    newest = kept[-1].revision
    rest = directory[len(kept) :]
    assert all(each.compatible_from is not None and each.compatible_from <= newest for each in rest)
    for shorter in range(1, len(kept)):
        left_out = directory[shorter:]
        oldest = directory[shorter - 1].revision
        assert not all(each.compatible_from and each.compatible_from <= oldest for each in left_out)


def test_a_directory_without_contracts_is_needed_whole() -> None:
    """And so is one that consists of a single contract."""
    plain = [migration("1_a"), migration("2_b")]
    assert needed(plain) == plain
    assert needed([migration("1_a", "1_a")]) == [migration("1_a", "1_a")]
    assert needed([]) == []


@given(contracts, st.sampled_from([" ", ",", ", ", "\n"]))
def test_contracts_are_read_as_they_were_written(written: list[Contract], separator: str) -> None:
    """Whichever separator the label has."""
    assert list(parse_contracts(format_contracts(written, separator))) == written


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No other exception is raised."""
    with suppress(ContractError):
        assert all(all(contract) for contract in parse_contracts(text))


@pytest.mark.parametrize("text", ["a", "a:", ":b", "a:b:c", "a:b c", " ".join(["a:b"] * 17), "a:" + "b" * 4095])
def test_a_list_of_another_form_is_refused(text: str) -> None:
    """Too many and too long are refused too."""
    with pytest.raises(ContractError):
        parse_contracts(text)


def test_only_the_newest_contracts_are_kept() -> None:
    """A label has as many contracts as fit by number and by length, and its text can be parsed again."""
    many = [migration(f"{number:03}_m", f"{number:03}_m") for number in range(40)]
    assert [each.revision for each in newest_contracts(many)] == [f"{number:03}_m" for number in range(24, 40)]
    long = [migration(f"{number:03}_{'m' * 400}", "001_m") for number in range(12)]
    kept = newest_contracts(long)
    assert kept[-1].revision == long[-1].revision
    assert len(format_contracts(kept)) <= MAX_CONTRACTS_TEXT
    assert parse_contracts(format_contracts(kept)) == kept


def test_a_name_that_a_label_cannot_hold_is_refused() -> None:
    """The message names the migration and what to do; migrations that are no contracts may have any name."""
    with pytest.raises(ContractError, match=r"2_a,b.*rename the file"):
        newest_contracts([migration("1_a"), migration("2_a,b", "1_a")])
    assert newest_contracts([migration("1_a:b c")]) == ()
